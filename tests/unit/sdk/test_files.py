"""Frames in files."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bettong
from bettong._files import read_frame

TABLE = pa.table({"x": [[1.0, 2.0], [3.0, 4.0]]})


def _write(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".json"):
        path.write_text(json.dumps(TABLE.to_pylist()))
    elif name.endswith(".parquet"):
        pq.write_table(TABLE, path)
    elif name.endswith(".file.arrow"):
        with pa.ipc.new_file(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE)
    else:
        with pa.ipc.new_stream(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "a.file.arrow", "a.stream.arrow"])
def test_each_format_gives_its_rows(tmp_path: Path, name: str) -> None:
    """Records come as a data frame, Arrow and Parquet as a table; both kinds of Arrow are told apart by content."""
    frame = read_frame(_write(tmp_path, name))
    rows = frame["x"].tolist() if isinstance(frame, pd.DataFrame) else frame.column("x").to_pylist()
    assert rows == [[1.0, 2.0], [3.0, 4.0]]


def test_csv_has_one_value_a_cell(tmp_path: Path) -> None:
    """CSV columns are single values."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2.5\n3,4.5\n")
    assert read_frame(path).to_dict("list") == {"a": [1, 3], "b": [2.5, 4.5]}


def test_named_format_goes_before_the_suffix(tmp_path: Path) -> None:
    """`data_format` says what a file is that has another name."""
    path = _write(tmp_path, "a.json").rename(tmp_path / "rows.txt")
    assert len(read_frame(path, "pandas-records")) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "is no json file of rows"),
        ("a.json", b'{"x": 1}', "expected a list of records"),
        ("a.json", b"\xff\xff", "is no json file of rows"),
        ("a.arrow", b"ARROW1 no", "is no arrow file of rows"),
        ("a.arrow", b"", "is no arrow file of rows"),
        ("a.parquet", b"PAR1", "is no parquet file of rows"),
        ("a.csv", b"", "is no csv file of rows"),
        ("a.xyz", b"", "format 'xyz' is unknown; known: arrow"),
    ],
)
def test_file_that_is_something_else_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The error names the file and what it should have been."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(bettong.InvalidInputError, match=message) as caught:
        read_frame(path)
    assert str(path) in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is the caller's mistake, said in one line."""
    with pytest.raises(bettong.InvalidInputError, match="cannot be read: No such file"):
        read_frame(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("name", "content", "message", "row"),
    [
        ("a.csv", "x,y\n1,2\n3,\n", "column 'y', row 1: a value is missing (an empty cell)", 1),
        ("a.csv", "x,y\n1,2\n3\n", "column 'y', row 1: a value is missing (an empty cell)", 1),
        ("a.csv", "y\n1\n\n3\n", "column 'y', row 1: a value is missing (an empty cell)", 1),
        ("a.csv", "x,y\n1,NaN\n3,4\n", "column 'y', row 0: a value is missing ('NaN')", 0),
        ("a.csv", "x,y\n1,2\n3,NA\n", "column 'y', row 1: a value is missing ('NA')", 1),
        ("a.json", '[{"y": 1.0}, {"y": null}]', "column 'y', row 1: a value is missing (null)", 1),
        ("a.json", '[{"x": 1, "y": 1.0}, {"x": 1}]', "column 'y' is not in every row; row 1 differs", 1),
    ],
)
def test_a_missing_value_is_never_a_number(tmp_path: Path, name: str, content: str, message: str, row: int) -> None:
    """A data frame would have NaN in its place, of which a model makes a confident answer."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(bettong.InvalidInputError) as caught:
        read_frame(path)
    assert str(caught.value) == f"{path}: {message}"
    assert (caught.value.field, caught.value.row) == ("y", row)


def test_texts_that_look_like_missing_values_stay(tmp_path: Path) -> None:
    """NA is a country; lines without anything at the end of a file are nothing."""
    path = tmp_path / "a.csv"
    path.write_text("country,n\nNA,1\nDE,2\n\n\n")
    assert read_frame(path).to_dict("list") == {"country": ["NA", "DE"], "n": [1, 2]}


def test_more_cells_than_names_are_refused(tmp_path: Path) -> None:
    """The first column would be taken for an index, and each value for that of its neighbour."""
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2,3\n4,5,6\n")
    with pytest.raises(bettong.InvalidInputError, match="rows have more cells than there are names"):
        read_frame(path)


def test_csv_cells_may_be_lists(tmp_path: Path) -> None:
    """Pandas writes lists like that; texts in brackets stay texts."""
    path = tmp_path / "a.csv"
    path.write_text('x,word\n"[1.0, 2.0]",[CLS]\n"[3.0, 4.0]",[SEP]\n')
    assert read_frame(path).to_dict("list") == {"x": [[1.0, 2.0], [3.0, 4.0]], "word": ["[CLS]", "[SEP]"]}
