"""The live view for a terminal."""

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bettong._demo import text
from bettong._demo.tally import Prediction, Snapshot
from bettong._demo.transactions import FLAG_THRESHOLD


def render(counts: Snapshot, *, mean_batch_rows: float, rate_per_s: float, addresses: str) -> RenderableType:
    """Return the whole view.

    Args:
        counts: What happened so far.
        mean_batch_rows: Of the server's latest batches; NaN if unknown.
        rate_per_s: Events a second that were asked for.
        addresses: Where the server listens.
    """
    body: list[RenderableType] = [_figures(counts, mean_batch_rows, rate_per_s), _detection(counts)]
    if counts.failed:
        body.append(Text(f"{counts.failed:,} failed: {counts.last_error}", style="bold red"))
    body.append(Columns([_predictions("newest", counts.newest), _predictions("newest flagged", counts.newest_flagged)]))
    body.append(Text(addresses, style="dim"))
    title = f"bettong demo · card fraud · {counts.elapsed_s:.0f} s"
    return Panel(Group(*body), title=title, subtitle="Ctrl-C ends it", border_style="cyan")


def _figures(counts: Snapshot, mean_batch_rows: float, rate_per_s: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("events/s", "p50", "p99", "batch", "answered", "asked for", style="dim")
    table.add_row(
        f"{counts.recent_per_s:,.0f}",
        text.latency(counts.recent.p50_s),
        text.latency(counts.recent.p99_s),
        text.rows(mean_batch_rows),
        f"{counts.answered:,}",
        f"{rate_per_s:,.0f}/s",
        style="bold",
    )
    return table


def _detection(counts: Snapshot) -> Text:
    return Text(
        f"flagged {counts.flagged:,} · fraud {counts.fraud:,} · "
        f"precision {text.share(counts.precision)} · recall {text.share(counts.recall)}"
    )


def _predictions(title: str, predictions: Sequence[Prediction]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("card", "EUR", "P(fraud)"):
        table.add_column(heading, justify="right")
    table.add_column(f"> {FLAG_THRESHOLD:g}")
    for prediction in predictions:
        table.add_row(
            f"{prediction.card}",
            f"{prediction.amount_eur:,.2f}",
            f"{prediction.probability:.4f}",
            Text("⚑ flag", style="bold red") if prediction.is_flagged else Text("pass", style="green"),
        )
    return table
