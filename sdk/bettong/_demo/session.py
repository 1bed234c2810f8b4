"""One run of the demo: a server, the pipeline, a load, a screen."""

import concurrent.futures
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich.console import Console

from bettong._data import read_json
from bettong._demo.batches import BatchMetrics
from bettong._demo.generator import TransactionGenerator
from bettong._demo.load import LoadPlan, OpenLoop, Scorer
from bettong._demo.pipeline import PIPELINE, PipelineScorer, deploy_fraud
from bettong._demo.report import Outcome, summary
from bettong._demo.screen import Screen, opened
from bettong._demo.stopping import stop_on_signals
from bettong._demo.tally import Tally
from bettong._demo.transactions import Transactions
from bettong._demo.usage import Usage
from bettong._http import HttpPool, parse_endpoint
from bettong._up import up

_TIMEOUT_S = 5.0
_SEARCHED = 4_096
"""Transactions among which an example of fraud is looked for."""


def run_demo(plan: LoadPlan, *, port: int, data: Path | None, is_live: bool) -> int:
    """Start a server in this process, deploy the pipeline, run the load, and return the exit code.

    Args:
        plan: The load.
        port: Port for events; 0 takes any free one.
        data: Folder for all state; None for the default.
        is_live: Whether to draw a view if there is a terminal.

    Raises:
        BettongError: The server cannot start, or refuses the pipeline.
    """
    with stop_on_signals() as stop:
        started_s = time.monotonic()
        with up(port, data=data) as client:
            score = PipelineScorer(deploy_fraud(client))
            example = _example_of_fraud(plan.seed)
            # The first answer proves that it serves, and loads what every later one needs.
            score(example.columns)
            usage = _usage(client.url(), example)
            click.echo(f"ready after {time.monotonic() - started_s:.1f} s: {usage.text()}")
            with opened(Console(), rate_per_s=plan.rate_per_s, addresses=usage.addresses, is_live=is_live) as screen:
                outcome = run_load(plan, score, BatchMetrics(usage.metrics_address, PIPELINE), screen=screen, stop=stop)
            click.echo(summary(outcome))
        return outcome.exit_code


def run_load(plan: LoadPlan, score: Scorer, batches: BatchMetrics, *, screen: Screen, stop: threading.Event) -> Outcome:
    """Send events until the plan ends or *stop* is set, showing how it goes; return when all of them are answered."""
    tally = Tally(time.monotonic)
    with ThreadPoolExecutor(1, "bettong-demo-loop") as executor:
        running = executor.submit(OpenLoop(plan, score, tally).run, stop)
        try:
            while not concurrent.futures.wait([running], timeout=screen.period_s).done:
                screen.show(tally.snapshot(), batches.recent_mean_rows())
            is_interrupted = stop.is_set()
        finally:
            # If the screen fails the loop must end too, or the executor would wait for it for ever.
            stop.set()
        running.result()
    return Outcome(tally.snapshot(), plan.rate_per_s, batches.mean_rows(), is_interrupted)


def _example_of_fraud(seed: int) -> Transactions:
    """Return one early transaction that is fraud."""
    events = TransactionGenerator(seed).take(_SEARCHED)
    row = int(events.is_fraud.argmax())
    return events.between(row, row + 1)


def _usage(url: str, example: Transactions) -> Usage:
    """Find out where the server listens."""
    found = read_json(HttpPool(parse_endpoint(url)), "/v1/server", timeout_s=_TIMEOUT_S)
    return Usage(
        url=url,
        control_address=str(found["control_address"]),
        metrics_address=str(found["metrics_address"]),
        pipeline=PIPELINE,
        record=example.record(0),
    )
