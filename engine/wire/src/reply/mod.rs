//! Replies of the native routes: what was given, what came out, and what it took.
//!
//! Columns are `time`, `in.*`, `out.*`, `anomaly.count` and `metadata.*`; [`Dataset`] chooses of them.

mod arrow;
mod json;

use bettong_frame::{Error, ErrorKind, Result, Tensor, TensorSpec};
use bytes::Bytes;

use crate::arrow::ArrowKind;
use crate::dataset::Dataset;
use crate::frames::{Frame, Given};

/// Metadata is written for each row, so that a reply may be much larger than its request.
const MAX_REPLY_BYTES: usize = 1 << 31;

#[cold]
fn too_large() -> Error {
    let hint = "leave columns out with dataset and dataset.exclude, or send fewer rows";
    Error::new(ErrorKind::TooLarge, format!("the reply would be larger than {MAX_REPLY_BYTES} bytes: {hint}"))
}

/// What a reply tells of the pipeline and of the time that it took.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// Name and SHA-256 of the last step's model, as JSON text.
    pub last_model: &'a str,
    /// The pipeline version that answered.
    pub pipeline_version: &'a str,
    /// Nanoseconds for parsing and queueing, then for each step.
    pub elapsed_ns: &'a [u64],
    /// Columns that were left out of the log.
    pub dropped: &'a [&'a str],
    /// Name of the engine that answered.
    pub partition: &'a str,
}

/// A reply before it is written.
#[derive(Clone, Copy, Debug)]
pub struct ReplyFrame<'a> {
    /// Milliseconds since 1970 when the answer was there.
    pub time_ms: i64,
    /// What was given.
    pub frame: &'a Frame,
    /// Names of the outputs.
    pub specs: &'a [TensorSpec],
    /// One tensor for each of them, a row for each row given.
    pub outputs: &'a [Tensor],
    /// Anomalies found in each row; empty if the pipeline has no validations.
    pub anomaly_counts: &'a [u32],
    /// The rest.
    pub metadata: Metadata<'a>,
}

/// Where the values of a column come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Time,
    /// Place among the given columns.
    In(usize),
    /// Place among the outputs.
    Out(usize),
    AnomalyCount,
    LastModel,
    PipelineVersion,
    Elapsed,
    Dropped,
    Partition,
}

/// A column of the reply.
#[derive(Clone, Debug)]
struct Column {
    group: &'static str,
    /// Name within the group; none for a column that is alone in its group.
    name: Option<String>,
    source: Source,
}

impl Column {
    fn flat_name(&self, separator: &str) -> String {
        self.name.as_ref().map_or_else(|| self.group.to_owned(), |name| format!("{}{separator}{name}", self.group))
    }
}

impl ReplyFrame<'_> {
    /// The reply as JSON records.
    pub fn write_json(&self, dataset: &Dataset) -> Result<Bytes> {
        json::write(self, &self.columns(dataset)?, dataset.separator())
    }

    /// The reply as Arrow IPC of *kind*; names are always flat.
    pub fn write_arrow(&self, dataset: &Dataset, kind: ArrowKind) -> Result<Bytes> {
        arrow::write(self, &self.columns(dataset)?, dataset.separator().unwrap_or("."), kind)
    }

    /// The columns that *dataset* keeps.
    fn columns(&self, dataset: &Dataset) -> Result<Vec<Column>> {
        self.check_rows()?;
        let all = self.all_columns();
        let names: Vec<String> = all.iter().map(|column| column.flat_name(".")).collect();
        dataset.check(names.iter().map(String::as_str))?;
        Ok(all.into_iter().zip(&names).filter(|(_, name)| dataset.keeps(name)).map(|(column, _)| column).collect())
    }

    fn all_columns(&self) -> Vec<Column> {
        let column = |group, name: &str, source| Column { group, name: Some(name.to_owned()), source };
        let mut columns = vec![Column { group: "time", name: None, source: Source::Time }];
        columns.extend(self.given_names().into_iter().enumerate().map(|(at, name)| column("in", name, Source::In(at))));
        columns.extend(self.specs.iter().enumerate().map(|(at, spec)| column("out", &spec.name, Source::Out(at))));
        columns.push(column("anomaly", "count", Source::AnomalyCount));
        let metadata = [
            ("last_model", Source::LastModel),
            ("pipeline_version", Source::PipelineVersion),
            ("elapsed", Source::Elapsed),
            ("dropped", Source::Dropped),
            ("partition", Source::Partition),
        ];
        columns.extend(metadata.map(|(name, source)| column("metadata", name, source)));
        columns
    }

    fn given_names(&self) -> Vec<&str> {
        match &self.frame.given {
            Given::Tensors => self.frame.columns.iter().map(|(name, _)| name.as_ref()).collect(),
            Given::Arrow(batches) => batches
                .first()
                .map(|batch| batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect())
                .unwrap_or_default(),
        }
    }

    fn check_rows(&self) -> Result<()> {
        let rows = self.frame.rows;
        for (spec, tensor) in self.specs.iter().zip(self.outputs) {
            if tensor.rows() != rows || tensor.shape.is_empty() {
                let (name, found) = (&spec.name, tensor.rows());
                let hint = "a frame can't hold it; use the Open Inference Protocol";
                let message = format!("output '{name}' has {found} rows for {rows} rows given: {hint}");
                return Err(Error { field: Some((&**name).into()), ..Error::new(ErrorKind::Unimplemented, message) });
            }
        }
        Ok(())
    }
}
