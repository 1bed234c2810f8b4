"""The tables that are printed."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.results import Results


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A point of ours over one of the yardstick's, and what it may be at most."""

    server: str
    point: str
    yardstick: str
    bar: float
    is_p50: bool = False
    """Of latency instead of CPU."""


_RATIOS = (
    _Ratio("bettong", "c16", "c16", 1.10),
    _Ratio("bettong", "c64", "c64", 1.10),
    _Ratio("bettong", "s1", "s1", 1.15),
    _Ratio("bettong", "s8", "s8", 1.15),
    _Ratio("bettong", "b128", "b128", 0.85),
    _Ratio("bettong", "r16", "c16", 0.70),
    _Ratio("bettong", "r64", "c64", 0.70),
    _Ratio("bettong", "x16", "c16", 0.70),
    _Ratio("bettong", "x64", "c64", 0.70),
    _Ratio("bettong", "c1", "c1", 1.05, is_p50=True),
    _Ratio("bettong-spin", "c1", "c1", 0.60, is_p50=True),
    _Ratio("chain", "c64", "c64", 1.80),
    _Ratio("inside", "c64", "c64", 1.50),
    _Ratio("chain", "s8", "s8", 3.00),
)
_HOPS = {"chain": 2, "inside": 1}
"""Of the clusters that are measured."""
_HOP_BAR_MS = 0.15
_RAW_ROW_BAR = 1.6


def lines(results: Results) -> Iterator[str]:
    """Yield everything that is printed at the end."""
    yield from _main_table(results)
    yield from _ratio_table(results)
    if results.figures:
        width = max(len(figure.name) for figure in results.figures)
        yield ""
        for figure in results.figures:
            yield f"{figure.name:<{width}}  {_short(figure.value):>10} {figure.unit:<7} {figure.bar}"
    for name, reason in results.skipped.items():
        yield ""
        yield f"left out: {name}: {reason[:600]}"


def _main_table(results: Results) -> Iterator[str]:
    if not results.rows:
        return
    heads = ("CPU µs", "of raw", "req/s", "rows/s", "p50 ms", "p99 ms")
    yield f"{'server':<40}{'point':<6}{'what':<28}" + "".join(f"{head:>11}" for head in heads)
    for row in results.rows:
        measured = row.measured
        # What the model alone takes for as many rows. Streams and many connections may beat it: their rows are run together.
        raw = results.find("raw", f"b{row.rows}")
        share = f"{raw.measured.cpu_us / measured.cpu_us:.0%}" if raw else ""
        figures = (
            _short(measured.cpu_us),
            share,
            f"{measured.requests_per_s:,.0f}",
            f"{measured.requests_per_s * row.rows:,.0f}",
            f"{measured.p50_ms:.3f}",
            f"{measured.p99_ms:.3f}",
        )
        failed = f"  {measured.failed} FAILED" if measured.failed else ""
        yield f"{row.title:<40}{row.point:<6}{row.what:<28}" + "".join(f"{text:>11}" for text in figures) + failed


def _ratio_table(results: Results) -> Iterator[str]:
    found = [line for line in (_ratio(results, ratio) for ratio in _RATIOS) if line]
    raw, ours = results.find("raw", "b128"), results.find("bettong", "b1024")
    if raw and ours:
        name = "bettong, a row of b1024 / raw, a row of b128"
        found.append(_ratio_line(name, ours.row_cpu_us() / raw.row_cpu_us(), _RAW_ROW_BAR))
    found += _hop_lines(results)
    if found:
        yield ""
        yield f"{'ratio':<48}{'is':>8}{'bar':>8}"
        yield from found


def _hop_lines(results: Results) -> Iterator[str]:
    """Yield what each hop adds to the latency of one connection."""
    alone = results.find("bettong", "c1")
    for server, hops in _HOPS.items():
        found = results.find(server, "c1")
        if alone and found:
            added_ms = (found.measured.p50_ms - alone.measured.p50_ms) / hops
            yield _ratio_line(f"{server} c1 - bettong c1, p50 a hop in ms", added_ms, _HOP_BAR_MS)


def _ratio(results: Results, ratio: _Ratio) -> str:
    ours, theirs = results.find(ratio.server, ratio.point), results.find("yardstick", ratio.yardstick)
    if ours is None or theirs is None:
        return ""
    name = f"{ratio.server} {ratio.point} / yardstick {ratio.yardstick}, {'p50' if ratio.is_p50 else 'CPU'}"
    if ratio.is_p50:
        return _ratio_line(name, ours.measured.p50_ms / theirs.measured.p50_ms, ratio.bar)
    return _ratio_line(name, ours.measured.cpu_us / theirs.measured.cpu_us, ratio.bar)


def _ratio_line(name: str, value: float, bar: float) -> str:
    return f"{name:<48}{value:>8.2f}{bar:>8.2f}{'' if value <= bar else '   OVER'}"


_THREE_DIGITS = 100


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= _THREE_DIGITS else f"{value:.2f}"
