"""What the demo says where nobody watches a screen: a line now and then, and a summary at the end."""

from dataclasses import dataclass

from bettong._demo import text
from bettong._demo.tally import Snapshot
from bettong._demo.transactions import FLAG_THRESHOLD

_KEPT_UP = 0.95
"""Below this share of the rate that was asked for, the run says that it could not keep up."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run."""

    counts: Snapshot
    rate_per_s: float
    """Events a second that were asked for."""
    mean_batch_rows: float
    """Rows of the batches that the server ran, over the whole run; NaN if unknown."""
    is_interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 if everything that was sent was answered, and something was, unless a person ended the run before."""
        counts = self.counts
        if counts.answered != counts.sent:
            return 1
        return 0 if counts.sent or self.is_interrupted else 1

    @property
    def kept_up(self) -> bool:
        """Whether events were answered about as fast as they were due."""
        return self.counts.per_s >= _KEPT_UP * self.rate_per_s


def line(counts: Snapshot, mean_batch_rows: float) -> str:
    """Return one line about the last seconds."""
    return (
        f"{counts.elapsed_s:6.1f} s  {counts.recent_per_s:8,.0f} events/s  "
        f"p50 {text.latency(counts.recent.p50_s)}  p99 {text.latency(counts.recent.p99_s)}  "
        f"batch {text.rows(mean_batch_rows)}  flagged {counts.flagged:,} (fraud {counts.fraud:,})  "
        f"failed {counts.failed:,}"
    )


def summary(outcome: Outcome) -> str:
    """Return what came of the run, as lines."""
    counts = outcome.counts
    lines = [
        f"events      sent {counts.sent:,}, answered {counts.answered:,}, failed {counts.failed:,}",
        f"rate        {counts.per_s:,.0f} events/s over {counts.elapsed_s:.1f} s (asked for {outcome.rate_per_s:,.0f})",
        f"latency     p50 {text.latency(counts.total.p50_s)}, p99 {text.latency(counts.total.p99_s)}",
        f"batches     {text.rows(outcome.mean_batch_rows)} on average",
        f"flagged     {counts.flagged:,} above {FLAG_THRESHOLD:g}; {counts.fraud:,} were fraud",
        f"quality     precision {text.share(counts.precision)}, recall {text.share(counts.recall)}",
    ]
    if counts.sent and not outcome.kept_up:
        lines.append(
            f"kept up     no: requests left up to {text.latency(counts.largest_lag_s)} late; try a lower --rate"
        )
    if counts.last_error:
        lines.append(f"last error  {counts.last_error}")
    return "\n".join(lines)
