"""The tables that are printed."""

from collections.abc import Iterator

from bench.results import Results, Row

# Bettong's point, the yardstick's point, what is compared, and the bar.
_RATIOS = (
    ("bettong", "c16", "c16", "cpu", 1.10),
    ("bettong", "c64", "c64", "cpu", 1.10),
    ("bettong", "s1", "s1", "cpu", 1.15),
    ("bettong", "s8", "s8", "cpu", 1.15),
    ("bettong", "b128", "b128", "cpu", 0.85),
    ("bettong", "r16", "c16", "cpu", 0.70),
    ("bettong", "r64", "c64", "cpu", 0.70),
    ("bettong", "x16", "c16", "cpu", 0.70),
    ("bettong", "x64", "c64", "cpu", 0.70),
    ("bettong", "c1", "c1", "p50", 1.05),
    ("bettong-spin", "c1", "c1", "p50", 0.60),
)
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
    raw = results.find("raw", "b1")
    heads = ("CPU µs", "of raw", "req/s", "rows/s", "p50 ms", "p99 ms")
    yield f"{'server':<28}{'point':<6}{'what':<28}" + "".join(f"{head:>11}" for head in heads)
    for row in results.rows:
        measured = row.measured
        share = f"{raw.measured.cpu_us / row.row_cpu_us():.0%}" if raw else ""
        figures = (
            _short(measured.cpu_us),
            share,
            f"{measured.requests_per_s:,.0f}",
            f"{measured.requests_per_s * row.rows:,.0f}",
            f"{measured.p50_ms:.3f}",
            f"{measured.p99_ms:.3f}",
        )
        failed = f"  {measured.failed} FAILED" if measured.failed else ""
        yield f"{row.title:<28}{row.point:<6}{row.what:<28}" + "".join(f"{text:>11}" for text in figures) + failed


def _ratio_table(results: Results) -> Iterator[str]:
    found = [line for line in (_ratio(results, *ratio) for ratio in _RATIOS) if line]
    raw, ours = results.find("raw", "b1024"), results.find("bettong", "b1024")
    if raw and ours:
        found.append(_ratio_line("b1024 / raw b1024, CPU", ours.row_cpu_us() / raw.row_cpu_us(), _RAW_ROW_BAR))
    if found:
        yield ""
        yield f"{'ratio':<44}{'is':>8}{'bar':>8}"
        yield from found


def _ratio(results: Results, server: str, point: str, other: str, what: str, bar: float) -> str:
    ours, theirs = results.find(server, point), results.find("yardstick", other)
    if ours is None or theirs is None:
        return ""
    name = f"{server} {point} / yardstick {other}, {'CPU' if what == 'cpu' else 'p50'}"
    return _ratio_line(name, _value(ours, what) / _value(theirs, what), bar)


def _ratio_line(name: str, value: float, bar: float) -> str:
    return f"{name:<44}{value:>8.2f}{bar:>8.2f}{'' if value <= bar else '   OVER'}"


def _value(row: Row, what: str) -> float:
    return row.measured.cpu_us if what == "cpu" else row.measured.p50_ms


_THREE_DIGITS = 100


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= _THREE_DIGITS else f"{value:.2f}"
