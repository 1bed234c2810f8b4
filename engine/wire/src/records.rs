//! Frames as JSON records: `[{"column": value, …}, …]`, as `pandas.DataFrame.to_json(orient="records")` writes them.
//!
//! Columns that are inputs are parsed straight into the input's dtype; the dtype of others is inferred. A single object is
//! a frame of one row.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bettong_frame::cast::cast;
use bettong_frame::{Columns, DType, Error, Shape, Signature, Tensor};
use bytes::Bytes;

use crate::frames::{Frame, Given, input_for};
use crate::json::array::{Exactness, Fault, Nesting, read_array, read_scalar};
use crate::json::cursor::{Cursor, Problem};

/// A column that is being read.
struct Column<'a> {
    name: Cow<'a, str>,
    dtype: DType,
    /// Whether the dtype was guessed from the values, so that it may still widen.
    inferred: bool,
    /// Shape of one row, which the first row decides.
    nesting: Option<Nesting>,
    data: Vec<u8>,
    rows: usize,
}

/// Columns in the order of the first record.
struct Table<'a> {
    columns: Vec<Column<'a>>,
    /// Places by name; made when a record comes in another order.
    places: HashMap<String, usize>,
    row: usize,
}

/// Decode records for a pipeline that takes *signature*.
pub fn decode(body: &Bytes, signature: &Signature) -> Result<Frame, Error> {
    let mut cursor = Cursor::new(body);
    let is_list = match cursor.token().map_err(|problem| syntax(&cursor, problem))? {
        b'[' => true,
        b'{' => false,
        _ => return Err(Error::invalid("the body must be a JSON array of records, one object for each row")),
    };
    if is_list {
        cursor.advance(1);
        if !cursor.element(&mut true).map_err(|problem| syntax(&cursor, problem))? {
            return Err(Error::invalid("the frame has zero rows"));
        }
    }
    let start = cursor.at();
    let mut table = Table { columns: first_columns(&mut cursor, signature)?, places: HashMap::new(), row: 0 };
    let record_bytes = (cursor.at() - start).max(1);
    cursor.go_to(start);
    table.read_record(&mut cursor)?;
    if is_list {
        table.reserve(body.len() / record_bytes, body.len());
        let mut first = false;
        while cursor.element(&mut first).map_err(|problem| syntax(&cursor, problem))? {
            table.read_record(&mut cursor)?;
        }
    }
    cursor.end().map_err(|problem| syntax(&cursor, problem))?;
    Ok(table.into_frame())
}

/// The columns of the record at *cursor*, with their dtypes and no values yet.
fn first_columns<'a>(cursor: &mut Cursor<'a>, signature: &Signature) -> Result<Vec<Column<'a>>, Error> {
    let (mut found, mut names) = (Vec::new(), HashSet::new());
    let mut first = true;
    cursor.take(b'{', Problem::NoObject).map_err(|problem| syntax(cursor, problem))?;
    while let Some(name) = cursor.member(&mut first).map_err(|problem| syntax(cursor, problem))? {
        cursor.token().map_err(|problem| syntax(cursor, problem))?;
        let guess = guess(cursor.rest());
        cursor.skip_value().map_err(|problem| unskipped(cursor, &name, problem))?;
        if !names.insert(name.clone()) {
            return Err(in_row(0, &name, "is given twice"));
        }
        found.push((name, guess));
    }
    if found.is_empty() {
        return Err(Error::invalid("row 0 has no columns"));
    }
    let alone = found.len() == 1;
    let column = |(name, guess): (Cow<'a, str>, DType)| {
        let input = input_for(signature, &name, alone);
        let dtype = input.map_or(guess, |input| input.spec.dtype);
        Column { name, dtype, inferred: input.is_none(), nesting: None, data: Vec::new(), rows: 0 }
    };
    Ok(found.into_iter().map(column).collect())
}

/// The dtype of the value at the start of *text*, or of the first one in its arrays.
fn guess(text: &[u8]) -> DType {
    let at = text.iter().position(|byte| !b"[ \n\r\t".contains(byte)).unwrap_or(text.len());
    match text.get(at) {
        Some(b'"') => DType::Bytes,
        Some(b't' | b'f') => DType::Bool,
        Some(b'-' | b'0'..=b'9') => {
            let number = Cursor::new(&text[at..]).number().unwrap_or_default();
            if number.iter().any(|byte| b".eE".contains(byte)) { DType::Fp64 } else { DType::Int64 }
        }
        _ => DType::Fp64,
    }
}

impl<'a> Table<'a> {
    fn reserve(&mut self, rows: usize, body_bytes: usize) {
        for column in &mut self.columns {
            // Two bytes of text are the least for an element, which has at most eight.
            let bytes = column.data.len().saturating_mul(rows).min(body_bytes.saturating_mul(4));
            column.data.reserve_exact(bytes);
        }
    }

    fn read_record(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        let (mut first, mut seen) = (true, 0);
        cursor.take(b'{', Problem::NoObject).map_err(|problem| syntax(cursor, problem))?;
        while let Some(name) = cursor.member(&mut first).map_err(|problem| syntax(cursor, problem))? {
            let at = self.place(seen, &name)?;
            let column = &mut self.columns[at];
            if column.rows > self.row {
                return Err(in_row(self.row, &name, "is given twice"));
            }
            column.read_cell(cursor, self.row)?;
            seen += 1;
        }
        if seen != self.columns.len() {
            let missing = self.columns.iter().find(|column| column.rows == self.row);
            return Err(in_row(self.row, missing.map_or("", |column| &column.name), "is missing"));
        }
        self.row += 1;
        Ok(())
    }

    /// Place of the column called *name*, which is probably the one at *expected*.
    #[inline]
    fn place(&mut self, expected: usize, name: &str) -> Result<usize, Error> {
        if self.columns.get(expected).is_some_and(|column| column.name == name) {
            return Ok(expected);
        }
        if self.places.is_empty() {
            self.places = self.columns.iter().enumerate().map(|(at, column)| (column.name.to_string(), at)).collect();
        }
        self.places.get(name).copied().ok_or_else(|| in_row(self.row, name, "is not in row 0"))
    }

    fn into_frame(self) -> Frame {
        let rows = self.row;
        let columns: Columns<'static> = self.columns.into_iter().map(|column| column.into_named_tensor(rows)).collect();
        Frame { columns, rows, given: Given::Tensors }
    }
}

impl Column<'_> {
    /// Append the value at *cursor*.
    #[inline]
    fn read_cell(&mut self, cursor: &mut Cursor<'_>, row: usize) -> Result<(), Error> {
        let token = cursor.token().map_err(|problem| syntax(cursor, problem))?;
        let (start, len) = (cursor.at(), self.data.len());
        let mut read = self.read_value(cursor, token);
        if self.may_widen(&read) {
            self.widen(len, row)?;
            cursor.go_to(start);
            read = self.read_value(cursor, token);
        }
        let nesting = read.map_err(|fault| self.bad_cell(cursor, row, &fault))?;
        self.rows = row + 1;
        match &self.nesting {
            None => self.nesting = Some(nesting),
            Some(wanted) if *wanted == nesting => {}
            Some(wanted) => return Err(ragged(&self.name, row, &nesting, wanted)),
        }
        Ok(())
    }

    #[inline]
    fn read_value(&mut self, cursor: &mut Cursor<'_>, token: u8) -> Result<Nesting, Fault> {
        if token == b'[' {
            return read_array(self.dtype, Exactness::Exact, cursor, &mut self.data);
        }
        let alone = |problem| Fault { problem, row: None, element: 0, lengths: (0, 0) };
        read_scalar(self.dtype, cursor, &mut self.data).map_err(alone).map(|()| Nesting::new())
    }

    /// Whether a value was not an integer where all before it were, in a column whose dtype is only a guess.
    fn may_widen(&self, read: &Result<Nesting, Fault>) -> bool {
        let Err(fault) = read else { return false };
        self.inferred && self.dtype == DType::Int64 && matches!(fault.problem, Problem::NotWhole | Problem::OutOfRange)
    }

    /// Make doubles of the integers in the first *len* bytes, and drop the rest.
    #[cold]
    fn widen(&mut self, len: usize, row: usize) -> Result<(), Error> {
        self.data.truncate(len);
        let mut shape = Shape::from_slice(&[row as i64]);
        shape.extend(self.nesting.iter().flatten().map(|&dim| dim as i64));
        let integers = Tensor::new(&self.name, DType::Int64, shape, std::mem::take(&mut self.data).into())?;
        self.data = cast(&self.name, &integers, DType::Fp64)?.into();
        self.dtype = DType::Fp64;
        Ok(())
    }

    #[cold]
    fn bad_cell(&self, cursor: &mut Cursor<'_>, row: usize, fault: &Fault) -> Error {
        let name = &*self.name;
        if cursor.rest().first() == Some(&b'{') {
            return Error::invalid_field(name, format!("column '{name}', row {row}: an object can't be the value of a column"));
        }
        if !fault.problem.is_value() {
            return Error::invalid_field(
                name,
                format!("column '{name}', row {row}: the JSON is not valid at byte {}: {}", cursor.at(), fault.problem.text()),
            );
        }
        Error::invalid_field(name, format!("column '{name}', row {row}: {}", fault.describe(cursor, self.dtype)))
    }

    fn into_named_tensor(self, rows: usize) -> (Cow<'static, str>, Tensor) {
        let mut shape = Shape::from_slice(&[rows as i64]);
        shape.extend(self.nesting.iter().flatten().map(|&dim| dim as i64));
        (Cow::Owned(self.name.into_owned()), Tensor { dtype: self.dtype, shape, data: self.data.into() })
    }
}

#[cold]
fn syntax(cursor: &Cursor<'_>, problem: Problem) -> Error {
    Error::invalid(format!("the JSON is not valid at byte {}: {}", cursor.at(), problem.text()))
}

/// A value that could not even be skipped, in the first record.
#[cold]
fn unskipped(cursor: &Cursor<'_>, column: &str, problem: Problem) -> Error {
    if !problem.is_value() {
        return syntax(cursor, problem);
    }
    Error::invalid_field(column, format!("column '{column}', row 0: {}", problem.text()))
}

#[cold]
fn in_row(row: usize, column: &str, what: &str) -> Error {
    Error::invalid_field(column, format!("row {row}: column '{column}' {what}"))
}

#[cold]
fn ragged(column: &str, row: usize, found: &Nesting, wanted: &Nesting) -> Error {
    let shown = |nesting: &Nesting| match nesting[..] {
        [] => "a single value".to_owned(),
        [count] => format!("a list of {count}"),
        _ => format!("lists of {nesting:?}"),
    };
    let (found, wanted) = (shown(found), shown(wanted));
    Error::invalid_field(column, format!("column '{column}', row {row}: it is {found}, in row 0 it is {wanted}"))
}
