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
