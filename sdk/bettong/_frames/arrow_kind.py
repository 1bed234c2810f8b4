"""pyarrow tables and record batches."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def to_table(given: "pa.Table | pa.RecordBatch") -> pa.Table:
    """Return the columns for the wire, not copied."""
    return pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else given


def from_reply(
    reply: pa.Table, given: "pa.Table | pa.RecordBatch", inputs: Sequence[tuple[str, str]]
) -> "pa.Table | pa.RecordBatch":
    """Join the reply with the columns that were given, not copied."""
    joined = join_inputs(reply, {name: given.column(column) for column, name in inputs})
    if not isinstance(given, pa.RecordBatch):
        return joined
    arrays = [column.combine_chunks() for column in joined.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=joined.schema)


def join_inputs(reply: pa.Table, inputs: dict[str, Any]) -> pa.Table:
    """Put columns behind the time, where a reply has its inputs."""
    at = 1 if reply.num_columns and reply.column_names[0] == "time" else 0
    names = [*reply.column_names[:at], *inputs, *reply.column_names[at:]]
    columns = [*reply.columns[:at], *inputs.values(), *reply.columns[at:]]
    return pa.table(dict(zip(names, columns, strict=True)))
