//! Arrow values that JSON has no type for, as text.

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::{as_date, as_datetime, as_time};
use arrow_array::types::{
    Date32Type, Date64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};
use bettong_frame::{Error, Result, Tensor};

use super::columns::{Flat, dtype, flatten, refuse_expansion, tensor};

/// The values of *chunks* as a tensor that JSON can show: dates and times as ISO 8601 text, dictionaries by their values.
pub fn shown(name: &str, chunks: &[ArrayRef]) -> Result<Tensor> {
    let mut flat = flatten(name, chunks)?;
    if flat.leaves.first().is_some_and(|leaf| dtype(leaf.data_type()).is_none()) {
        let leaves: Result<Vec<ArrayRef>> = flat.leaves.iter().map(|leaf| as_texts(name, leaf)).collect();
        flat.leaves = leaves?;
    }
    tensor(name, Flat { leaves: flat.leaves, shape: flat.shape })
}

fn as_texts(name: &str, leaf: &ArrayRef) -> Result<ArrayRef> {
    if let Some(dictionary) = leaf.as_any_dictionary_opt() {
        return looked_up(name, dictionary.normalized_keys(), dictionary.values());
    }
    let texts: Option<Vec<String>> = match leaf.data_type() {
        DataType::Timestamp(unit, zone) => {
            let suffix = if zone.is_some() { "Z" } else { "" };
            match unit {
                TimeUnit::Second => datetimes::<TimestampSecondType>(leaf, suffix),
                TimeUnit::Millisecond => datetimes::<TimestampMillisecondType>(leaf, suffix),
                TimeUnit::Microsecond => datetimes::<TimestampMicrosecondType>(leaf, suffix),
                TimeUnit::Nanosecond => datetimes::<TimestampNanosecondType>(leaf, suffix),
            }
        }
        DataType::Date32 => each::<Date32Type>(leaf, |value| Some(format!("{:?}", as_date::<Date32Type>(value)?))),
        DataType::Date64 => each::<Date64Type>(leaf, |value| Some(format!("{:?}", as_date::<Date64Type>(value)?))),
        DataType::Time32(TimeUnit::Second) => times::<Time32SecondType>(leaf),
        DataType::Time32(_) => times::<Time32MillisecondType>(leaf),
        DataType::Time64(TimeUnit::Microsecond) => times::<Time64MicrosecondType>(leaf),
        DataType::Time64(_) => times::<Time64NanosecondType>(leaf),
        _ => None,
    };
    let texts = texts.ok_or_else(|| unshowable(name, leaf.data_type()))?;
    Ok(std::sync::Arc::new(arrow_array::StringArray::from(texts)))
}

fn datetimes<T: ArrowPrimitiveType<Native = i64>>(leaf: &ArrayRef, suffix: &str) -> Option<Vec<String>> {
    each::<T>(leaf, |value| Some(format!("{:?}{suffix}", as_datetime::<T>(value)?)))
}

fn times<T: ArrowPrimitiveType>(leaf: &ArrayRef) -> Option<Vec<String>>
where
    i64: From<T::Native>,
{
    each::<T>(leaf, |value| Some(format!("{:?}", as_time::<T>(value)?)))
}

fn each<T: ArrowPrimitiveType>(leaf: &ArrayRef, show: impl Fn(i64) -> Option<String>) -> Option<Vec<String>>
where
    i64: From<T::Native>,
{
    leaf.as_primitive::<T>().values().iter().map(|&value| show(i64::from(value))).collect()
}

/// The *values* at *keys*.
fn looked_up(name: &str, keys: Vec<usize>, values: &ArrayRef) -> Result<ArrayRef> {
    let all = shown(name, std::slice::from_ref(values))?;
    let bytes: Vec<&[u8]> = match all.dtype.size() {
        Some(_) => return Err(unshowable(name, values.data_type())),
        None => bettong_frame::tensor::byte_elements(&all.data).collect(),
    };
    let length = |&key: &usize| bytes.get(key).map_or(0, |text| text.len());
    refuse_expansion(name, keys.iter().map(length).sum())?;
    let picked = keys.into_iter().map(|key| bytes.get(key).copied().unwrap_or_default());
    Ok(std::sync::Arc::new(arrow_array::LargeBinaryArray::from_iter_values(picked)))
}

#[cold]
fn unshowable(name: &str, data_type: &DataType) -> Error {
    let hint = "ask for Arrow, or leave it out with dataset.exclude";
    Error::invalid_field(name, format!("column '{name}': the Arrow type {data_type} can't be written as JSON; {hint}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Date32Array, DictionaryArray, Time32SecondArray, TimestampMicrosecondArray, TimestampSecondArray};

    use super::*;

    fn texts(array: impl Array + 'static) -> Vec<String> {
        let tensor = shown("x", &[Arc::new(array) as ArrayRef]).unwrap();
        bettong_frame::tensor::byte_elements(&tensor.data).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn dates_and_times_are_iso_8601() {
        assert_eq!(vec!["2025-07-15T20:41:53.814"], texts(TimestampMicrosecondArray::from(vec![1_752_612_113_814_000])));
        let zoned = TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC");
        assert_eq!(vec!["1970-01-01T00:00:00Z"], texts(zoned));
        assert_eq!(vec!["1970-01-02"], texts(Date32Array::from(vec![1])));
        assert_eq!(vec!["01:00:00"], texts(Time32SecondArray::from(vec![3600])));
    }

    #[test]
    fn dictionaries_show_their_values() {
        let array: DictionaryArray<arrow_array::types::Int8Type> = vec!["b", "a", "b"].into_iter().collect();
        assert_eq!(vec!["b", "a", "b"], texts(array));
    }

    #[test]
    fn times_outside_of_the_calendar_are_refused() {
        let arrays: [ArrayRef; 2] =
            [Arc::new(TimestampSecondArray::from(vec![i64::MAX])), Arc::new(arrow_array::DurationSecondArray::from(vec![1]))];
        for array in arrays {
            assert!(shown("x", &[array]).unwrap_err().message.contains("can't be written as JSON"));
        }
    }
}
