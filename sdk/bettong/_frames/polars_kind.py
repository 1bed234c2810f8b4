"""polars data frames."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa


def to_table(given: pl.DataFrame) -> pa.Table:
    """Return the columns for the wire, in the types that every Arrow reader knows."""
    return given.to_arrow(compat_level=pl.CompatLevel.oldest())


def from_reply(reply: pa.Table, given: pl.DataFrame, inputs: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Join the reply with the columns that were given, not copied."""
    answer = pl.DataFrame(reply)
    at = 1 if answer.columns[:1] == ["time"] else 0
    columns = answer.get_columns()
    columns[at:at] = [given.get_column(column).alias(name) for column, name in inputs]
    return pl.DataFrame(columns)
