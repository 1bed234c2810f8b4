"""More load than a server can carry: what it answers stays near its best, what it refuses it refuses at once."""

from pathlib import Path

# ruff: noqa: T201 - a seed decides what happens, and a run says what it did
import numpy as np
import onnx_files
import pytest
from grpc import aio
from loads import UNLIMITED, Load, until_none_in_flight
from servers import serving

pytestmark = pytest.mark.slow

# About 8 ms of one core for each row, so that a small client can ask for ten times what the server has.
TURNS = 400
SECONDS = 3.0
DEADLINE_S = 0.5

# Client and server share the cores with whatever else the machine does, which shows in one run but not in each of five.
ATTEMPTS = 5


@pytest.mark.timeout(120)
@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.parametrize("timeout_s", [DEADLINE_S, None], ids=["with deadlines", "without deadlines"])
async def test_goodput_stays_at_nine_tenths_of_the_peak(tmp_path: Path, times: int, timeout_s: float | None) -> None:
    """Refusals are quick and say when to come back; no answer is wrong, and little is run for nothing."""
    with serving(tmp_path / "data", lanes=1, compute_threads=1, max_queue_rows=40) as server:
        server.deploy("slow", onnx_files.slow(TURNS), tmp_path)
        async with aio.insecure_channel(server.data, UNLIMITED) as channel:
            for _ in range(ATTEMPTS):
                peak = await Load(channel, "slow").closed(concurrency=8, seconds=SECONDS)
                before = server.counts()
                load = Load(channel, "slow")
                goodput = await load.opened(peak * times, SECONDS, timeout_s)
                run = server.counts().total("bettong_batch_rows_sum") - before.total("bettong_batch_rows_sum")
                outcomes = load.outcomes
                print(
                    f"peak {peak:.0f}/s, sent {outcomes.sent}, {dict(outcomes.codes)}, run {run}, goodput {goodput:.0f}/s"
                )
                assert outcomes.wrong == []
                assert set(outcomes.codes) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
                assert None not in outcomes.retry_hints_s
                overloaded = outcomes.sent > 1.5 * peak * SECONDS and outcomes.codes["RESOURCE_EXHAUSTED"] > 20
                enough = goodput >= 0.9 * peak and run <= 1.2 * outcomes.codes["OK"] + 10
                if overloaded and enough and np.median(outcomes.refused_s) < 0.1:
                    return
    pytest.fail(f"goodput {goodput:.0f}/s of a peak of {peak:.0f}/s, {run} rows run, in {ATTEMPTS} attempts")


async def test_a_refusal_over_rest_says_when_to_come_back(tmp_path: Path) -> None:
    """429 with Retry-After in whole seconds, at least one, and the exact time beside it."""
    import asyncio

    import httpx

    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    with serving(tmp_path / "data", lanes=1, compute_threads=1, max_queue_rows=2) as server:
        # Slow enough that 40 are too many however slowly they are sent.
        server.deploy("slow", onnx_files.slow(10 * TURNS), tmp_path)
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            replies = await asyncio.gather(*(client.post("/v2/models/slow/infer", json=body) for _ in range(40)))
            native = await asyncio.gather(
                *(client.post("/v1/pipelines/slow/infer", json=[{"x": 1}]) for _ in range(40))
            )
    for group, key in ((replies, "error"), (native, "code")):
        refused = [reply for reply in group if reply.status_code == 429]
        assert len(refused) > 5
        assert {reply.status_code for reply in group} == {200, 429}
        for reply in refused:
            assert int(reply.headers["retry-after"]) >= 1
            assert int(reply.headers["retry-after-ms"]) >= 1
            assert key in reply.json()


async def test_the_limit_of_requests_in_flight_is_kept(tmp_path: Path) -> None:
    """Beyond it all are refused, and the gauge returns to zero."""
    with serving(tmp_path / "data", lanes=1, compute_threads=1, max_in_flight=10) as server:
        server.deploy("slow", onnx_files.slow(TURNS), tmp_path)
        async with aio.insecure_channel(server.data, UNLIMITED) as channel:
            load = Load(channel, "slow")
            await load.opened(rate=2_000, seconds=0.5, timeout_s=None)
        await until_none_in_flight(server)
        counts = server.counts()
    print(dict(load.outcomes.codes))
    assert load.outcomes.codes["OK"] >= 10
    assert load.outcomes.codes["RESOURCE_EXHAUSTED"] > 100
    assert None not in load.outcomes.retry_hints_s
    assert counts.total("bettong_admission_refusals_total") == load.outcomes.codes["RESOURCE_EXHAUSTED"]
