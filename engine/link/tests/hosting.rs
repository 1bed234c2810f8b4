//! What is counted follows what is run for others.

use std::sync::Arc;

use bettong_frame::{BatchMode, Dispatch, Request, Signature};
use bettong_link::{Host, Hosted, Names};
use bettong_telemetry::{PipelineMetrics, Registry};

struct Nowhere;

impl Dispatch for Nowhere {
    fn submit(&self, _request: Request) {}
}

fn hosted(metrics: &Arc<PipelineMetrics>) -> (String, String, Hosted) {
    let signature = Signature { inputs: vec![], outputs: vec![], batch_mode: BatchMode::Rows };
    let hosted = Hosted { signature, target: Arc::new(Nowhere), metrics: metrics.clone() };
    (metrics.pipeline.clone(), metrics.version.clone(), hosted)
}

#[test]
fn a_version_that_is_prepared_while_another_change_ends_it_is_counted() {
    let registry = Arc::new(Registry::default());
    let host = Host::new(Arc::new(Names::default()), registry.clone(), 1);
    let metrics = registry.pipeline("p", "1", &[]);
    host.change(vec![], &[("p".into(), "1".into())]);
    assert!(registry.pipelines().is_empty());
    host.change(vec![hosted(&metrics)], &[]);
    assert!(matches!(&registry.pipelines()[..], [only] if Arc::ptr_eq(only, &metrics)));
}

#[test]
fn versions_of_a_pipeline_are_counted_side_by_side() {
    let registry = Arc::new(Registry::default());
    let host = Host::new(Arc::new(Names::default()), registry.clone(), 1);
    let both = ["1", "2"].map(|version| registry.pipeline("p", version, &[]));
    host.change(both.iter().map(hosted).collect(), &[]);
    host.change(vec![], &[("p".into(), "1".into())]);
    assert!(matches!(&registry.pipelines()[..], [only] if only.version == "2"));
}
