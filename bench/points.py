"""Points of measurement: a protocol, connections, rows."""

from dataclasses import dataclass

from bench import calls
from bench.calls import CallBuilder

_BATCH_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Point:
    """One line of the table."""

    label: str
    title: str
    build: CallBuilder
    connections: int
    rows: int


_KINDS: dict[str, tuple[str, CallBuilder]] = {
    "c": ("gRPC", calls.grpc_unary),
    "b": ("gRPC", calls.grpc_unary),
    "s": ("gRPC stream", calls.grpc_stream),
    "r": ("REST JSON", calls.rest_json),
    "x": ("REST binary", calls.rest_binary),
    "p": ("own JSON route", calls.plain_json),
}


def point(label: str) -> Point:
    """Read a label: a letter for the protocol, then connections; `b` counts rows of a request instead.

    Raises:
        ValueError: There is no such point.
    """
    kind, number = label[:1], label[1:]
    if kind not in _KINDS or not number.isdigit() or int(number) == 0:
        raise ValueError(f"'{label}' is no point: one of {', '.join(_KINDS)} and a number is")
    protocol, build = _KINDS[kind]
    if kind == "b":
        return Point(label, f"{protocol}, {number}-row requests", build, _BATCH_CONNECTIONS, int(number))
    unit = "stream" if kind == "s" else "connection"
    plural = "" if number == "1" else "s"
    return Point(label, f"{protocol}, {number} {unit}{plural}", build, int(number), 1)
