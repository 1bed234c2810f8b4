//! The Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>), with base units.

use std::fmt::Write;
use std::sync::Arc;

use crate::metrics::{Counter, Histogram, LinkMetrics, PipelineMetrics, Registry};

const NANOS: f64 = 1e9;

/// Content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// All metrics of *registry*; *version* is the product's.
pub fn render(registry: &Registry, version: &str) -> String {
    let mut page = Page { text: String::with_capacity(16 * 1024) };
    page.head("bettong_build_info", "gauge", "Version of the server.");
    let _ = writeln!(page.text, "bettong_build_info{{version=\"{version}\"}} 1");
    process(&mut page);
    gateway(&mut page, registry);
    links(&mut page, &registry.links);
    log_lines(&mut page);
    pipelines(&mut page, &registry.pipelines());
    page.text
}

/// Name, help and place of a counter.
type CounterFamily = (&'static str, &'static str, fn(&PipelineMetrics) -> &Counter);

/// Name, help, unit and place of a histogram.
type HistogramFamily = (&'static str, &'static str, f64, fn(&PipelineMetrics) -> &Histogram);

struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {value}")
        } else {
            writeln!(self.text, "{name}{{{labels}}} {value}")
        };
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram, unit: f64) {
        let (buckets, count) = histogram.cumulative();
        for (bound, cumulative) in buckets {
            let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"{}\"}} {cumulative}", bound as f64 / unit);
        }
        let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {count}", histogram.sum() as f64 / unit);
    }
}

fn links(page: &mut Page, links: &LinkMetrics) {
    page.head("bettong_links", "gauge", "Links to and from other processes that are up.");
    page.value("bettong_links", "", links.links.get());
    let counters = [
        ("bettong_link_bundles_total", "Bundles of calls and outcomes sent.", &links.bundles),
        ("bettong_link_calls_sent_total", "Calls sent to other processes, each try for itself.", &links.sent),
        ("bettong_link_calls_taken_total", "Calls taken from other processes.", &links.taken),
        ("bettong_link_calls_lost_total", "Calls whose process went away before it answered.", &links.lost),
        ("bettong_link_retries_total", "Calls tried again on another process.", &links.retried),
        ("bettong_link_retries_refused_total", "Calls not tried again because too many had been.", &links.retries_refused),
        ("bettong_link_hedges_total", "Calls asked of a second process because the first took long.", &links.hedged),
        ("bettong_link_hedges_won_total", "Calls that the second process answered first.", &links.hedges_won),
        ("bettong_link_ejections_total", "Times that a process was left out because it failed.", &links.ejected),
    ];
    for (name, help, counter) in counters {
        page.head(name, "counter", help);
        page.value(name, "", counter.get());
    }
}

fn gateway(page: &mut Page, registry: &Registry) {
    let gateway = &registry.gateway;
    let gauges = [
        ("bettong_connections", "Connections open on the data port.", gateway.connections.get()),
        ("bettong_requests_in_flight", "Requests admitted and not yet answered.", gateway.in_flight.get()),
        ("bettong_requests_in_flight_bytes", "Bytes of those requests.", gateway.in_flight_bytes.get()),
    ];
    for (name, help, value) in gauges {
        page.head(name, "gauge", help);
        page.value(name, "", value);
    }
    let counters = [
        ("bettong_connections_refused_total", "Connections closed because there were too many.", &gateway.connections_refused),
        ("bettong_admission_refusals_total", "Requests refused by admission or a full queue.", &gateway.refused),
        ("bettong_requests_failed_total", "Requests that failed otherwise, also those of no pipeline.", &gateway.failed),
    ];
    for (name, help, counter) in counters {
        page.head(name, "counter", help);
        page.value(name, "", counter.get());
    }
}

fn log_lines(page: &mut Page) {
    page.head(
        "bettong_log_lines_dropped_total",
        "counter",
        "Log lines of the engine that were dropped because the writer lagged.",
    );
    page.value("bettong_log_lines_dropped_total", "", crate::log::dropped_lines());
}

fn labels(metrics: &PipelineMetrics) -> String {
    format!("pipeline=\"{}\",version=\"{}\"", metrics.pipeline, metrics.version)
}

fn pipelines(page: &mut Page, all: &[Arc<PipelineMetrics>]) {
    page.head("bettong_requests_total", "counter", "Requests by pipeline and gRPC code.");
    for metrics in all {
        let labels = labels(metrics);
        page.value("bettong_requests_total", &format!("{labels},code=\"OK\""), metrics.ok.get());
        for (code, counter) in CODES.iter().zip(&metrics.failed).filter(|(_, counter)| counter.get() > 0) {
            page.value("bettong_requests_total", &format!("{labels},code=\"{code}\""), counter.get());
        }
    }
    let counters: [CounterFamily; 4] = [
        ("bettong_requests_handed_over_total", "Requests that a busy lane handed to an idle one.", |metrics| {
            &metrics.handed_over
        }),
        ("bettong_rows_total", "Rows answered.", |metrics| &metrics.rows),
        ("bettong_request_bytes_total", "Bytes of request bodies.", |metrics| &metrics.request_bytes),
        ("bettong_reply_bytes_total", "Bytes of reply bodies.", |metrics| &metrics.reply_bytes),
    ];
    for (name, help, counter) in counters {
        page.head(name, "counter", help);
        for metrics in all {
            page.value(name, &labels(metrics), counter(metrics).get());
        }
    }
    let histograms: [HistogramFamily; 3] = [
        ("bettong_queue_duration_seconds", "From arrival until the batch was formed.", NANOS, |metrics| &metrics.queue),
        ("bettong_request_duration_seconds", "From arrival until the answer was handed over.", NANOS, |metrics| &metrics.total),
        ("bettong_batch_rows", "Rows of each batch that ran.", 1.0, |metrics| &metrics.batch_rows),
    ];
    for (name, help, unit, histogram) in histograms {
        page.head(name, "histogram", help);
        for metrics in all {
            page.histogram(name, &labels(metrics), histogram(metrics), unit);
        }
    }
    page.head("bettong_step_run_duration_seconds", "histogram", "Run of a batch by one step's model.");
    for metrics in all {
        for (at, step) in metrics.steps.iter().enumerate() {
            let labels =
                format!("{},step=\"{at}\",model=\"{}\",model_version=\"{}\"", labels(metrics), step.model, step.model_version);
            page.histogram("bettong_step_run_duration_seconds", &labels, &step.run, NANOS);
        }
    }
}

/// The process metrics that every client library exports, read from `/proc`; left out where there is none.
fn process(page: &mut Page) {
    let Some((cpu_s, resident_bytes)) = process_figures() else { return };
    page.head("process_cpu_seconds_total", "counter", "User and system CPU time.");
    page.value("process_cpu_seconds_total", "", cpu_s);
    page.head("process_resident_memory_bytes", "gauge", "Resident memory.");
    page.value("process_resident_memory_bytes", "", resident_bytes);
}

fn process_figures() -> Option<(f64, u64)> {
    /// `USER_HZ`, which Linux fixes for `/proc` on every architecture that is served.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
    Some((ticks / TICKS_PER_S, kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_each_family_once_with_its_pipelines() {
        let registry = Registry::default();
        for name in ["a", "b"] {
            let metrics = registry.pipeline(name, "1", &[("m".into(), 3)]);
            metrics.ok.add(1);
            metrics.steps[0].run.observe(1_500_000);
        }
        let page = render(&registry, "9.9");
        assert_eq!(1, page.matches("# TYPE bettong_requests_total counter").count());
        assert!(page.contains("bettong_requests_total{pipeline=\"b\",version=\"1\",code=\"OK\"} 1"));
        let step = "step=\"0\",model=\"m\",model_version=\"3\"";
        assert!(page.contains(&format!("seconds_bucket{{pipeline=\"a\",version=\"1\",{step},le=\"0.0025\"}} 1")));
        assert!(page.contains("bettong_build_info{version=\"9.9\"} 1"));
    }
}
