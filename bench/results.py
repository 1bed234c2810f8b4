"""What was measured, in one shape for the tables and for JSON."""

from dataclasses import dataclass, field

from bench.load import Measured


@dataclass(frozen=True, slots=True)
class Row:
    """One server at one point."""

    server: str
    """Name of the contender."""
    title: str
    point: str
    what: str
    rows: int
    """Rows of a request."""
    measured: Measured

    def row_cpu_us(self) -> float:
        """Return the CPU of one row."""
        return self.measured.cpu_us / self.rows


@dataclass(frozen=True, slots=True)
class Figure:
    """One number beside a bar."""

    name: str
    value: float
    unit: str
    bar: str = ""
    """What it is to reach, in words."""


@dataclass(slots=True)
class Results:
    """Everything of one run."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Reasons, by what was left out."""

    def add(self, row: Row) -> None:
        """Keep *row*, or the cheaper one if the point was measured before: noise only adds."""
        for at, other in enumerate(self.rows):
            if (other.server, other.point) == (row.server, row.point):
                if row.measured.cpu_us < other.measured.cpu_us:
                    self.rows[at] = row
                return
        self.rows.append(row)

    def find(self, server: str, point: str) -> Row | None:
        """Return what *server* gave at *point*, if it was measured."""
        return next((row for row in self.rows if (row.server, row.point) == (server, point)), None)
