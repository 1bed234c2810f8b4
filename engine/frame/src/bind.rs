//! Binding of given columns to the inputs of a signature.

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::cast::cast;
use crate::tensor::element_count;
use crate::{BatchMode, Error, Input, Result, Shape, Signature, Tensor, TensorSpec};

/// Columns as a client gave them.
pub type Columns<'a> = SmallVec<[(Cow<'a, str>, Tensor); 2]>;

/// How exactly columns must look like the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Names, dtypes and shapes as the signature says, nothing superfluous (Open Inference Protocol).
    Exact,
    /// Casts that lose nothing, reshapes of a row and superfluous columns are fine (frames).
    Frame,
}

/// Put columns in the order of the signature's inputs; return them with their rows.
pub fn bind(signature: &Signature, columns: &Columns<'_>, strictness: Strictness) -> Result<(SmallVec<[Tensor; 2]>, usize)> {
    let lone = strictness == Strictness::Frame && signature.inputs.len() == 1 && columns.len() == 1;
    let mut inputs: SmallVec<[Tensor; 2]> = SmallVec::new();
    let mut used = 0;
    for (at, input) in signature.inputs.iter().enumerate() {
        let found = match columns.get(at) {
            Some((name, _)) if input.is_called(name) => Some(at),
            _ => columns.iter().position(|(name, _)| input.is_called(name)),
        };
        // One of the parts of a row is not the row.
        let is_part = |at: usize| input.parts.iter().any(|part| **part == *columns[at].0);
        let found = found.or_else(|| (lone && !is_part(0)).then_some(0));
        let tensor = match found {
            Some(index) => {
                used += 1;
                let (name, tensor) = &columns[index];
                fit(signature.batch_mode, &input.spec, name, tensor, strictness)?
            }
            None if strictness == Strictness::Frame && !input.parts.is_empty() => join_parts(input, columns)?,
            None => return Err(missing(input, columns)),
        };
        inputs.push(tensor);
    }
    if strictness == Strictness::Exact && used != columns.len() {
        return Err(superfluous(signature, columns));
    }
    let rows = common_rows(signature, &inputs)?;
    Ok((inputs, rows))
}

fn common_rows(signature: &Signature, inputs: &[Tensor]) -> Result<usize> {
    if signature.batch_mode == BatchMode::Whole {
        return Ok(inputs.first().map_or(1, Tensor::rows).max(1));
    }
    let rows = inputs.first().map_or(0, Tensor::rows);
    if rows == 0 {
        let name = signature.inputs.first().map_or("", |input| &input.spec.name);
        return Err(Error::invalid_field(name, format!("input '{name}': zero rows")));
    }
    for (input, tensor) in signature.inputs.iter().zip(inputs) {
        if tensor.rows() != rows {
            let (name, first) = (&input.spec.name, &signature.inputs[0].spec.name);
            let found = tensor.rows();
            return Err(Error::invalid_field(name, format!("input '{name}' has {found} rows, '{first}' has {rows}")));
        }
    }
    Ok(rows)
}

#[inline]
fn fit(mode: BatchMode, spec: &TensorSpec, name: &str, tensor: &Tensor, strictness: Strictness) -> Result<Tensor> {
    if tensor.dtype == spec.dtype && shape_fits(mode, &spec.shape, &tensor.shape) {
        return Ok(tensor.clone());
    }
    if strictness == Strictness::Exact {
        return Err(unfit(spec, name, tensor));
    }
    let shape = row_reshape(mode, spec, tensor).ok_or_else(|| unfit(spec, name, tensor))?;
    let data = cast(name, tensor, spec.dtype)?;
    Ok(Tensor { dtype: spec.dtype, shape, data })
}

/// Whether *shape* is one that *spec* allows; rows are free unless the mode is whole.
#[inline]
pub fn shape_fits(mode: BatchMode, spec: &[i64], shape: &[i64]) -> bool {
    let free_rows = usize::from(mode != BatchMode::Whole).min(spec.len());
    spec.len() == shape.len()
        && spec[free_rows..].iter().zip(&shape[free_rows..]).all(|(&wanted, &found)| wanted == found || wanted == -1)
}

/// The shape that *spec* wants for the rows of *tensor*, if each row has the right number of elements.
fn row_reshape(mode: BatchMode, spec: &TensorSpec, tensor: &Tensor) -> Option<Shape> {
    if shape_fits(mode, &spec.shape, &tensor.shape) {
        return Some(tensor.shape.clone());
    }
    if mode == BatchMode::Whole || spec.shape.is_empty() {
        return None;
    }
    let per_row = tensor.row_elements();
    let mut shape = Shape::from_slice(&[tensor.rows() as i64]);
    shape.extend_from_slice(spec.row_shape());
    let free = shape.iter().skip(1).filter(|&&dim| dim == -1).count();
    if free == 1 {
        let fixed: i64 = shape.iter().skip(1).filter(|&&dim| dim != -1).product();
        let at = 1 + shape.iter().skip(1).position(|&dim| dim == -1)?;
        shape[at] = (per_row as i64).checked_div(fixed)?;
    }
    (free <= 1 && element_count(&shape[1..])? == per_row).then_some(shape)
}

/// Make one input of width k from k scalar columns.
fn join_parts(input: &Input, columns: &Columns<'_>) -> Result<Tensor> {
    let spec = &input.spec;
    let Some(size) = spec.dtype.size() else {
        return Err(missing(input, columns));
    };
    let mut parts: Vec<Bytes> = Vec::with_capacity(input.parts.len());
    let mut rows = 0;
    for part in &input.parts {
        let Some((name, tensor)) = columns.iter().find(|(name, _)| **name == **part) else {
            return Err(missing_part(input, part));
        };
        if tensor.row_elements() != 1 {
            return Err(Error::invalid_field(
                name,
                format!("column '{name}' must be scalar to be a part of input '{}'", spec.name),
            ));
        }
        if !parts.is_empty() && tensor.rows() != rows {
            return Err(Error::invalid_field(name, format!("column '{name}' has {} rows, others have {rows}", tensor.rows())));
        }
        rows = tensor.rows();
        parts.push(cast(name, tensor, spec.dtype)?);
    }
    let mut data = Vec::with_capacity(rows * parts.len() * size);
    for row in 0..rows {
        for part in &parts {
            data.extend_from_slice(&part[row * size..(row + 1) * size]);
        }
    }
    let shape = Shape::from_slice(&[rows as i64, parts.len() as i64]);
    Ok(Tensor { dtype: spec.dtype, shape, data: data.into() })
}

fn shown(dims: &[i64]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(","))
}

#[cold]
fn unfit(spec: &TensorSpec, name: &str, tensor: &Tensor) -> Error {
    let TensorSpec { dtype, shape, .. } = spec;
    // A client knows the name that it gave, which may be an alias, or that of a lone column.
    let what = if *name == *spec.name { format!("input '{name}'") } else { format!("column '{name}' as input '{}'", spec.name) };
    Error::invalid_field(name, format!("{what}: expected {dtype}{}, got {}{}", shown(shape), tensor.dtype, shown(&tensor.shape)))
}

#[cold]
fn missing(input: &Input, columns: &Columns<'_>) -> Error {
    let name = &input.spec.name;
    let given: Vec<&str> = columns.iter().map(|(name, _)| name.as_ref()).collect();
    let hint = if input.aliases.is_empty() { "" } else { " (nor one of its tensor_fields)" };
    Error::invalid_field(name, format!("input '{name}' is missing{hint}; given: {given:?}"))
}

#[cold]
fn missing_part(input: &Input, part: &str) -> Error {
    Error::invalid_field(part, format!("column '{part}' is missing; it is a part of input '{}'", input.spec.name))
}

#[cold]
fn superfluous(signature: &Signature, columns: &Columns<'_>) -> Error {
    let known = |name: &str| signature.inputs.iter().any(|input| input.is_called(name));
    let taken: Vec<&str> = signature.inputs.iter().map(|input| input.spec.name.as_ref()).collect();
    let twice = |at: usize| columns[..at].iter().any(|(name, _)| *name == columns[at].0);
    if let Some((name, _)) = columns.iter().find(|(name, _)| !known(name)) {
        return Error::invalid_field(name, format!("input '{name}' is not one of this pipeline's inputs: {taken:?}"));
    }
    let name = (0..columns.len()).find(|&at| twice(at)).map_or("", |at| columns[at].0.as_ref());
    if name.is_empty() {
        // Two names of one input, for example its own and its alias.
        return Error::invalid(format!("an input is given under two names; this pipeline takes {taken:?}"));
    }
    Error::invalid_field(name, format!("input '{name}' is given twice"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use std::sync::Arc;

    fn signature(shape: &[i64], aliases: &[&str], parts: &[&str]) -> Signature {
        let spec = TensorSpec { name: "dense_input".into(), dtype: DType::Fp32, shape: Shape::from_slice(shape) };
        let names = |names: &[&str]| names.iter().map(|&name| Arc::from(name)).collect();
        Signature {
            inputs: vec![Input { spec, aliases: names(aliases), parts: names(parts) }],
            outputs: vec![],
            batch_mode: BatchMode::Rows,
        }
    }

    fn floats(shape: &[i64]) -> Tensor {
        let count = element_count(shape).unwrap();
        let data: Vec<u8> = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
        Tensor::new("t", DType::Fp32, Shape::from_slice(shape), data.into()).unwrap()
    }

    fn columns(given: Vec<(&str, Tensor)>) -> Columns<'_> {
        given.into_iter().map(|(name, tensor)| (Cow::Borrowed(name), tensor)).collect()
    }

    #[test]
    fn a_column_is_found_by_name_or_alias() {
        for name in ["dense_input", "tensor"] {
            let given = columns(vec![(name, floats(&[2, 3]))]);
            let (inputs, rows) = bind(&signature(&[-1, 3], &["tensor"], &[]), &given, Strictness::Exact).unwrap();
            assert_eq!((1, 2), (inputs.len(), rows));
        }
    }

    #[test]
    fn a_lone_frame_column_needs_no_name_but_a_protocol_input_does() {
        let given = || columns(vec![("other", floats(&[2, 3]))]);
        assert!(bind(&signature(&[-1, 3], &[], &[]), &given(), Strictness::Frame).is_ok());
        let error = bind(&signature(&[-1, 3], &[], &[]), &given(), Strictness::Exact).unwrap_err();
        assert_eq!("input 'dense_input' is missing; given: [\"other\"]", error.message);
    }

    #[test]
    fn superfluous_inputs_are_refused_by_protocol_and_ignored_in_frames() {
        let given = || columns(vec![("dense_input", floats(&[2, 3])), ("id", floats(&[2]))]);
        let error = bind(&signature(&[-1, 3], &[], &[]), &given(), Strictness::Exact).unwrap_err();
        assert_eq!(Some("id"), error.field.as_deref());
        assert!(bind(&signature(&[-1, 3], &[], &[]), &given(), Strictness::Frame).is_ok());
    }

    #[test]
    fn wrong_shapes_and_zero_rows_are_refused_by_name() {
        for shape in [&[2, 4][..], &[6], &[0, 3], &[2, 3, 1]] {
            let given = columns(vec![("dense_input", floats(shape))]);
            let error = bind(&signature(&[-1, 3], &[], &[]), &given, Strictness::Exact).unwrap_err();
            assert_eq!(Some("dense_input"), error.field.as_deref(), "{shape:?}");
        }
    }

    #[test]
    fn a_column_of_another_name_is_named_with_the_input_that_it_was_taken_for() {
        for (name, message) in [
            ("other", "column 'other' as input 'dense_input': expected FP32[-1,3], got FP32[2,4]"),
            ("tensor", "column 'tensor' as input 'dense_input': expected FP32[-1,3], got FP32[2,4]"),
            ("dense_input", "input 'dense_input': expected FP32[-1,3], got FP32[2,4]"),
        ] {
            let given = columns(vec![(name, floats(&[2, 4]))]);
            let error = bind(&signature(&[-1, 3], &["tensor"], &[]), &given, Strictness::Frame).unwrap_err();
            assert_eq!((Some(name), message), (error.field.as_deref(), &*error.message));
        }
    }

    #[test]
    fn a_lone_column_does_not_stand_for_the_parts_of_a_row() {
        let given = columns(vec![("a", floats(&[2]))]);
        let error = bind(&signature(&[-1, 2], &[], &["a", "b"]), &given, Strictness::Frame).unwrap_err();
        assert_eq!("column 'b' is missing; it is a part of input 'dense_input'", error.message);
    }

    #[test]
    fn frames_may_flatten_a_row() {
        let given = columns(vec![("dense_input", floats(&[2, 6]))]);
        let (inputs, _) = bind(&signature(&[-1, 2, 3], &[], &[]), &given, Strictness::Frame).unwrap();
        assert_eq!(&[2, 2, 3][..], &inputs[0].shape[..]);

        let given = columns(vec![("dense_input", floats(&[4]))]);
        let (inputs, _) = bind(&signature(&[-1, 1], &[], &[]), &given, Strictness::Frame).unwrap();
        assert_eq!(&[4, 1][..], &inputs[0].shape[..]);
    }

    #[test]
    fn scalar_columns_are_joined_into_one_input_row_by_row() {
        let given = columns(vec![("b", floats(&[2])), ("a", floats(&[2])), ("id", floats(&[2]))]);
        let (inputs, rows) = bind(&signature(&[-1, 2], &[], &["a", "b"]), &given, Strictness::Frame).unwrap();
        assert_eq!(2, rows);
        let values: Vec<f32> = inputs[0].data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(vec![0.0, 0.0, 1.0, 1.0], values);
    }
}
