//! What is counted follows what is served, however many changes of the table come at once.

use std::sync::Arc;

use bettong_frame::{BatchMode, Dispatch, Request, Route, Signature};
use bettong_gateway::routes::Change;
use bettong_gateway::{Entry, Routes};
use bettong_telemetry::Registry;

struct Nowhere;

impl Dispatch for Nowhere {
    fn submit(&self, _request: Request) {}
}

/// A pipeline that is about to be served, counted from here on.
fn entry(registry: &Registry, version: u64) -> Entry {
    let version = version.to_string();
    let metrics = registry.pipeline("p", &version, &[]);
    let signature = Signature { inputs: vec![], outputs: vec![], batch_mode: BatchMode::Rows };
    let route =
        Route { pipeline: "p".into(), version: version.into(), signature, last_model: "".into(), target: Arc::new(Nowhere) };
    Entry::new(route, metrics, vec![], 1)
}

fn assert_counted(routes: &Routes, registry: &Registry) {
    let (counted, served) = (registry.pipelines(), routes.table().entries());
    let [only] = &served[..] else { panic!("{} serve", served.len()) };
    assert!(
        matches!(&counted[..], [metrics] if Arc::ptr_eq(metrics, &only.metrics)),
        "{} serves, counted are {:?}",
        only.metrics.version,
        counted.iter().map(|metrics| &metrics.version).collect::<Vec<_>>()
    );
}

#[test]
fn a_version_that_is_prepared_while_another_change_ends_its_pipeline_is_counted() {
    let (routes, registry) = (Routes::default(), Registry::default());
    let first = entry(&registry, 1);
    routes.apply(Change { revision: 1, serve: vec![first], ..Change::default() }, &registry).unwrap();
    let second = entry(&registry, 2);
    routes.apply(Change { revision: 2, stop: vec!["p".into()], ..Change::default() }, &registry).unwrap();
    routes.apply(Change { revision: 3, serve: vec![second], ..Change::default() }, &registry).unwrap();
    assert_counted(&routes, &registry);
}

#[test]
fn a_change_that_stops_and_serves_a_pipeline_leaves_it_counted() {
    let (routes, registry) = (Routes::default(), Registry::default());
    let change = Change { revision: 1, serve: vec![entry(&registry, 1)], stop: vec!["p".into()], ..Change::default() };
    routes.apply(change, &registry).unwrap();
    assert_counted(&routes, &registry);
}

#[test]
fn changes_that_overlap_leave_what_serves_counted() {
    let (routes, registry) = (Routes::default(), Registry::default());
    for round in 0..100 {
        std::thread::scope(|scope| {
            for place in 1..=4 {
                let (routes, registry) = (&routes, &registry);
                scope.spawn(move || {
                    let revision = round * 4 + place;
                    // Those that are overtaken are refused.
                    let _ =
                        routes.apply(Change { revision, serve: vec![entry(registry, revision)], ..Change::default() }, registry);
                });
            }
        });
        // The newest of a round is never refused; what others have prepared goes with the next.
        let change = Change { revision: round * 4 + 4, ..Change::default() };
        assert!(routes.apply(change, &registry).is_err());
        let (counted, served) = (registry.pipelines(), routes.table().entries());
        assert!(counted.iter().any(|metrics| Arc::ptr_eq(metrics, &served[0].metrics)), "round {round}");
    }
}
