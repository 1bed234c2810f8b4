"""Tables as Arrow IPC streams: written without copying a buffer, read in place."""

import io
from typing import TYPE_CHECKING

import pyarrow as pa

from bettong._errors import ServerError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Pieces(io.RawIOBase):
    """A file that keeps what is written to it, buffer by buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Buffer] = []

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, piece: "Buffer", /) -> int:
        """Keep a piece."""
        self.pieces.append(piece)
        return memoryview(piece).nbytes


def stream_pieces(table: pa.Table) -> "list[Buffer]":
    """Return the stream as small headers and the table's own buffers, in order."""
    pieces = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(pieces, "w"), table.schema) as writer:
        writer.write_table(table)
    return pieces.pieces


def read_stream(body: "Buffer") -> pa.Table:
    """Return the table whose buffers lie in *body*.

    Raises:
        ServerError: It is no Arrow stream.
    """
    try:
        return pa.ipc.open_stream(pa.py_buffer(body)).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ServerError(f"the reply is no Arrow stream: {error}") from error
