//! What is counted on the hot path: plain atomics, no locks, no labels looked up.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

use bettong_frame::ErrorKind;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Count *n* more.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Add *n*, which may be negative; return the value before.
    #[inline]
    pub fn add(&self, n: i64) -> i64 {
        self.0.fetch_add(n, Relaxed)
    }

    /// Set the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of latency buckets, in nanoseconds: 10 µs to 10 s, about three a decade.
pub const LATENCY_BOUNDS_NS: [u64; 20] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of batch sizes, in rows: powers of two.
pub const ROW_BOUNDS: [u64; 14] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384, 65_536];

/// Observations by bucket, with their sum.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram of latencies in nanoseconds.
    pub fn latency() -> Self {
        Self::new(&LATENCY_BOUNDS_NS)
    }

    /// An empty histogram of batch sizes in rows.
    pub fn rows() -> Self {
        Self::new(&ROW_BOUNDS)
    }

    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Count *value* once.
    #[inline]
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Each upper bound with the observations up to it, then the count of all.
    pub fn cumulative(&self) -> (Vec<(u64, u64)>, u64) {
        let mut total = 0;
        let mut rows = Vec::with_capacity(self.bounds.len());
        for (&bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            total += bucket.load(Relaxed);
            rows.push((bound, total));
        }
        (rows, total + self.buckets[self.bounds.len()].load(Relaxed))
    }

    /// Sum of all observations.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

/// One step of a pipeline.
#[derive(Debug)]
pub struct StepMetrics {
    /// Name of its model.
    pub model: String,
    /// Version of its model.
    pub model_version: u64,
    /// Time of each run of a batch.
    pub run: Histogram,
}

/// One pipeline version.
#[derive(Debug)]
pub struct PipelineMetrics {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its version.
    pub version: String,
    /// From arrival until the batch was formed.
    pub queue: Histogram,
    /// From arrival until the answer was handed over.
    pub total: Histogram,
    /// Rows of each batch that ran.
    pub batch_rows: Histogram,
    /// Its steps, in order.
    pub steps: Vec<StepMetrics>,
    /// Rows that were answered.
    pub rows: Counter,
    /// Requests that were answered.
    pub ok: Counter,
    /// Requests that failed, by gRPC code.
    pub failed: [Counter; 17],
    /// Requests that a busy lane handed to an idle one.
    pub handed_over: Counter,
    /// Bytes of request bodies.
    pub request_bytes: Counter,
    /// Bytes of reply bodies.
    pub reply_bytes: Counter,
    /// When the last request was answered, in milliseconds since the Unix epoch.
    pub last_inference_ms: Gauge,
}

impl PipelineMetrics {
    /// Zeroes for *pipeline* *version* with steps of the models named.
    pub fn new(pipeline: &str, version: &str, models: &[(String, u64)]) -> Self {
        let step = |(model, version): &(String, u64)| StepMetrics {
            model: model.clone(),
            model_version: *version,
            run: Histogram::latency(),
        };
        Self {
            pipeline: pipeline.to_owned(),
            version: version.to_owned(),
            queue: Histogram::latency(),
            total: Histogram::latency(),
            batch_rows: Histogram::rows(),
            steps: models.iter().map(step).collect(),
            rows: Counter::default(),
            ok: Counter::default(),
            failed: std::array::from_fn(|_| Counter::default()),
            handed_over: Counter::default(),
            request_bytes: Counter::default(),
            reply_bytes: Counter::default(),
            last_inference_ms: Gauge::default(),
        }
    }

    /// Note that something was answered now.
    #[inline]
    pub fn note_inference(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.last_inference_ms.set(now.map_or(0, |elapsed| elapsed.as_millis() as i64));
    }

    /// Count a request that failed.
    pub fn count_failure(&self, kind: ErrorKind) {
        self.failed[kind.grpc_code() as usize].add(1);
    }

    /// Requests that failed, over all codes.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(Counter::get).sum()
    }
}

/// What is counted before a pipeline is known, and over all of them.
#[derive(Debug, Default)]
pub struct GatewayMetrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections that were closed because there were too many.
    pub connections_refused: Counter,
    /// Requests admitted and not answered.
    pub in_flight: Gauge,
    /// Bytes of those requests.
    pub in_flight_bytes: Gauge,
    /// Requests answered.
    pub answered: Counter,
    /// Requests refused at admission or by a full queue.
    pub refused: Counter,
    /// Requests that failed otherwise.
    pub failed: Counter,
}

/// What is counted of calls between processes.
#[derive(Debug, Default)]
pub struct LinkMetrics {
    /// Links that are up, of either side.
    pub links: Gauge,
    /// Bundles sent.
    pub bundles: Counter,
    /// Calls sent to a peer, each try for itself.
    pub sent: Counter,
    /// Calls taken from a peer.
    pub taken: Counter,
    /// Calls that were tried again on another peer.
    pub retried: Counter,
    /// Calls that were not tried again because too many had been.
    pub retries_refused: Counter,
    /// Calls that were asked of a second peer because the first took long.
    pub hedged: Counter,
    /// Those of them that the second peer answered first.
    pub hedges_won: Counter,
    /// Calls whose peer went away before it answered.
    pub lost: Counter,
    /// Peers that were left out for a while.
    pub ejected: Counter,
}

/// All metrics of one process.
#[derive(Debug, Default)]
pub struct Registry {
    /// Of the gateway.
    pub gateway: GatewayMetrics,
    /// Of links to and from other processes.
    pub links: LinkMetrics,
    pipelines: RwLock<Vec<Arc<PipelineMetrics>>>,
}

impl Registry {
    /// The metrics of a pipeline version, made when it is new. A version that comes back goes on counting.
    pub fn pipeline(&self, pipeline: &str, version: &str, models: &[(String, u64)]) -> Arc<PipelineMetrics> {
        let mut all = self.pipelines.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = all.iter().find(|metrics| metrics.pipeline == pipeline && metrics.version == version) {
            return found.clone();
        }
        let metrics = Arc::new(PipelineMetrics::new(pipeline, version, models));
        all.push(metrics.clone());
        metrics
    }

    /// Forget every version of *pipeline*, so that labels stay bounded by what is deployed.
    pub fn forget(&self, pipeline: &str) {
        let mut all = self.pipelines.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|metrics| metrics.pipeline != pipeline);
    }

    /// Count *served* and no other version of its pipeline; also if it was forgotten since it was made, because something
    /// else of the pipeline has ended meanwhile.
    pub fn keep_only(&self, served: &Arc<PipelineMetrics>) {
        self.replace(served, |metrics| metrics.pipeline == served.pipeline);
    }

    /// Count *served* besides other versions of its pipeline, also if it was forgotten since it was made.
    pub fn keep(&self, served: &Arc<PipelineMetrics>) {
        self.replace(served, |metrics| metrics.pipeline == served.pipeline && metrics.version == served.version);
    }

    fn replace(&self, served: &Arc<PipelineMetrics>, replaced: impl Fn(&PipelineMetrics) -> bool) {
        let mut all = self.pipelines.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|metrics| Arc::ptr_eq(metrics, served) || !replaced(metrics));
        if !all.iter().any(|metrics| Arc::ptr_eq(metrics, served)) {
            all.push(served.clone());
        }
    }

    /// Forget *version* of *pipeline*.
    pub fn forget_version(&self, pipeline: &str, version: &str) {
        let mut all = self.pipelines.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|metrics| metrics.pipeline != pipeline || metrics.version != version);
    }

    /// Mean time of an answered request over all pipelines; `None` before the first.
    pub fn mean_request_ns(&self) -> Option<u64> {
        let all = self.pipelines();
        let (count, sum) =
            all.iter().fold((0, 0), |(count, sum), metrics| (count + metrics.total.cumulative().1, sum + metrics.total.sum()));
        sum.checked_div(count)
    }

    /// All pipeline versions that are counted.
    pub fn pipelines(&self) -> Vec<Arc<PipelineMetrics>> {
        self.pipelines.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::latency();
        for value in [1, 10_000, 10_001, u64::from(u32::MAX) * 10] {
            histogram.observe(value);
        }
        let (buckets, count) = histogram.cumulative();
        assert_eq!(((10_000, 2), (25_000, 3)), (buckets[0], buckets[1]));
        assert_eq!((4, 3), (count, buckets.last().unwrap().1));
    }

    #[test]
    fn a_version_that_comes_back_goes_on_counting_until_it_is_forgotten() {
        let registry = Registry::default();
        registry.pipeline("a", "1", &[]).ok.add(2);
        registry.pipeline("a", "2", &[]);
        assert_eq!(2, registry.pipeline("a", "1", &[]).ok.get());
        registry.keep_only(&registry.pipeline("a", "2", &[]));
        assert_eq!(0, registry.pipeline("a", "1", &[]).ok.get());
        registry.forget("a");
        assert!(registry.pipelines().is_empty());
    }

    #[test]
    fn what_serves_is_counted_whatever_was_forgotten_since_it_was_made() {
        let registry = Registry::default();
        let (first, second) = (registry.pipeline("a", "1", &[]), registry.pipeline("a", "2", &[]));
        registry.forget("a");
        registry.keep(&first);
        registry.keep(&second);
        assert_eq!(2, registry.pipelines().len());
        registry.forget_version("a", "1");
        let anew = registry.pipeline("a", "1", &[]);
        registry.keep(&first);
        assert!(!registry.pipelines().iter().any(|metrics| Arc::ptr_eq(metrics, &anew)));
        registry.keep_only(&first);
        assert!(matches!(&registry.pipelines()[..], [only] if Arc::ptr_eq(only, &first)));
    }
}
