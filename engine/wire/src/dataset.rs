//! Which columns of a reply are wanted, and how they are named.
//!
//! `?dataset[]=out&dataset[]=time&dataset.exclude[]=metadata&dataset.separator=.`: a name means a column (`out.y`) or all
//! below it (`out`); `*` means all. Without a separator JSON is nested by group.

use bettong_frame::{Error, Result};

/// Selection of reply columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    include: Vec<String>,
    exclude: Vec<String>,
    separator: Option<String>,
}

impl Default for Dataset {
    fn default() -> Self {
        Self::new([], [], None)
    }
}

impl Dataset {
    /// Take *include*, or everything if it is empty, but not *exclude*.
    pub fn new(
        include: impl IntoIterator<Item = String>,
        exclude: impl IntoIterator<Item = String>,
        separator: Option<String>,
    ) -> Self {
        let mut include: Vec<String> = include.into_iter().collect();
        if include.is_empty() {
            include.push("*".to_owned());
        }
        Self { include, exclude: exclude.into_iter().collect(), separator: separator.filter(|separator| !separator.is_empty()) }
    }

    /// As the query of a URL says; other parameters of the query are left alone.
    pub fn from_query(query: &str) -> Result<Self> {
        let (mut include, mut exclude, mut separator) = (Vec::new(), Vec::new(), None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "dataset[]" | "dataset" => include.push(value.into_owned()),
                "dataset.exclude[]" | "dataset.exclude" => exclude.push(value.into_owned()),
                "dataset.separator" if separator.is_some() => {
                    return Err(Error::invalid_field("dataset.separator", "dataset.separator is given twice"));
                }
                "dataset.separator" => separator = Some(value.into_owned()),
                _ if name.starts_with("dataset") => {
                    let known = "dataset[], dataset.exclude[] and dataset.separator";
                    return Err(Error::invalid_field(&name, format!("'{name}' is not a parameter; there are {known}")));
                }
                _ => {}
            }
        }
        Ok(Self::new(include, exclude, separator))
    }

    /// What stands between group and column in flat names; `None` if JSON is to be nested.
    pub fn separator(&self) -> Option<&str> {
        self.separator.as_deref()
    }

    /// Whether *column*, such as `out.y`, is wanted.
    pub fn keeps(&self, column: &str) -> bool {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| covers(pattern, column));
        named(&self.include) && !named(&self.exclude)
    }

    /// Refuse a wanted name that none of *columns* has.
    pub fn check<'c>(&self, columns: impl Iterator<Item = &'c str> + Clone) -> Result<()> {
        for pattern in &self.include {
            if !columns.clone().any(|column| covers(pattern, column)) {
                let columns: Vec<&str> = columns.collect();
                return Err(Error::invalid_field(
                    "dataset",
                    format!("dataset '{pattern}' is no column of the reply; there are {columns:?}"),
                ));
            }
        }
        Ok(())
    }
}

fn covers(pattern: &str, column: &str) -> bool {
    pattern == "*" || column.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 6] = ["time", "in.tensor", "out.y", "out.y2", "anomaly.count", "metadata.elapsed"];

    fn kept(query: &str) -> Vec<&'static str> {
        let dataset = Dataset::from_query(query).unwrap();
        COLUMNS.into_iter().filter(|column| dataset.keeps(column)).collect()
    }

    #[test]
    fn everything_is_kept_unless_said_otherwise() {
        assert_eq!(COLUMNS.to_vec(), kept(""));
        assert_eq!(COLUMNS.to_vec(), kept("dataset[]=*&timeout=3"));
    }

    #[test]
    fn a_group_or_a_column_can_be_chosen_and_left_out() {
        assert_eq!(vec!["time", "out.y", "out.y2"], kept("dataset[]=out&dataset[]=time"));
        assert_eq!(vec!["out.y"], kept("dataset[]=out.y"));
        assert_eq!(vec!["out.y2"], kept("dataset%5B%5D=out&dataset.exclude%5B%5D=out.y"));
        assert_eq!(COLUMNS[..5].to_vec(), kept("dataset.exclude[]=metadata"));
    }

    #[test]
    fn the_separator_is_percent_decoded_and_may_be_empty() {
        assert_eq!(Some("/"), Dataset::from_query("dataset.separator=%2F").unwrap().separator());
        assert_eq!(None, Dataset::from_query("dataset.separator=").unwrap().separator());
        assert!(Dataset::from_query("dataset.separator=.&dataset.separator=_").is_err());
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        let error = Dataset::from_query("dataset[]=out.z").unwrap().check(COLUMNS.into_iter()).unwrap_err();
        assert!(error.message.starts_with("dataset 'out.z' is no column of the reply; there are [\"time\""), "{error}");
        assert!(Dataset::from_query("dataset_exclude=metadata").is_err());
        Dataset::from_query("dataset[]=out&dataset[]=*").unwrap().check(COLUMNS.into_iter()).unwrap();
    }
}
