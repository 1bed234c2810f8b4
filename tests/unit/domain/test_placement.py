"""Placement: within bounds, the same for everybody, and little moves when an executor comes or goes."""
# ruff: noqa: T201 - a run says what it measured

import hashlib
import math
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bettong_domain.placement import ExecutorRoom, Placement, Wanted, place

NAMES = st.text("abcdefghij-0123456789", min_size=1, max_size=8)
CPUS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 3.0])
WANTED = st.builds(Wanted, NAMES, st.integers(0, 5), CPUS, st.sampled_from([0, 1, 2, 7]), st.integers(0, 3))
MODEST = st.builds(Wanted, NAMES, st.integers(0, 5))
EXECUTORS = st.builds(ExecutorRoom, NAMES, st.integers(1, 4), st.sampled_from([0, 4, 10]), st.booleans())
STEADY = st.builds(ExecutorRoom, NAMES, st.integers(1, 4))


def lists(one: st.SearchStrategy, size: int) -> st.SearchStrategy:
    return st.lists(one, max_size=size, unique_by=lambda each: getattr(each, "pipeline", None) or each.name)


def score(pipeline: str, executor: ExecutorRoom) -> float:
    """Return what the published formula gives, in the plainest way."""
    digest = hashlib.blake2b(f"{pipeline}\0{executor.name}".encode(), digest_size=8).hexdigest()
    return -executor.lanes / math.log((int(digest[:13], 16) + 0.5) / 16**13)


def oracle(wanted: list[Wanted], executors: list[ExecutorRoom]) -> dict[str, tuple[str, ...]]:
    """Ask every executor in order, one replica after another, and count anew what each has left."""
    placed: list[tuple[Wanted, ExecutorRoom]] = []
    for one in sorted(wanted, key=lambda each: (each.since, each.pipeline)):
        order = sorted(executors, key=lambda room: (room.draining, -score(one.pipeline, room)))
        for _ in range(max(one.replicas, 1)):
            for room in order:
                there = [other for other, where in placed if where is room]
                if one in there:
                    continue
                cpus = sum(other.cpus for other in [*there, one])
                memory = sum(other.memory_bytes for other in [*there, one])
                if cpus <= room.lanes + 1e-6 and (not room.memory_bytes or memory <= room.memory_bytes):
                    placed.append((one, room))
                    break
    return {one.pipeline: tuple(room.name for who, room in placed if who is one) for one in wanted}


@settings(deadline=None)
@given(lists(WANTED, 8), lists(EXECUTORS, 6))
def test_placement_is_what_a_naive_one_says(wanted: list[Wanted], executors: list[ExecutorRoom]) -> None:
    """Bounds, draining executors and scores are respected exactly, for any pipelines on any executors."""
    placement = place(wanted, executors)
    assert placement.assigned == oracle(wanted, executors)
    lacking = {one.pipeline for one in wanted if len(placement.assigned[one.pipeline]) < max(one.replicas, 1)}
    assert set(placement.short) == lacking


@settings(deadline=None)
@given(lists(WANTED, 8), lists(EXECUTORS, 6), st.randoms(use_true_random=False))
def test_order_of_what_is_given_does_not_matter(
    wanted: list[Wanted], executors: list[ExecutorRoom], chance: random.Random
) -> None:
    """Two members that list the same things in another order compute the same."""
    shuffled = chance.sample(wanted, len(wanted)), chance.sample(executors, len(executors))
    assert place(*shuffled) == place(wanted, executors)


@settings(deadline=None)
@given(lists(MODEST, 8), lists(STEADY, 6), STEADY)
def test_only_what_an_executor_takes_moves(
    wanted: list[Wanted], executors: list[ExecutorRoom], joining: ExecutorRoom
) -> None:
    """When one joins, replicas move to it and nowhere else; when it leaves, the others keep what they have."""
    without = [room for room in executors if room.name != joining.name]
    before, after = place(wanted, without).assigned, place(wanted, [*without, joining]).assigned
    for pipeline in before:
        assert set(after[pipeline]) <= {*before[pipeline], joining.name}
        assert set(after[pipeline]) - {joining.name} <= set(before[pipeline])


@settings(deadline=None)
@given(lists(WANTED, 8), lists(EXECUTORS, 6), WANTED)
def test_a_newer_pipeline_moves_no_older_one(
    wanted: list[Wanted], executors: list[ExecutorRoom], newer: Wanted
) -> None:
    """A deployment that asks for everything takes nothing from those that were there before."""
    newest = Wanted("newest", newer.replicas, newer.cpus, newer.memory_bytes, since=9)
    before, after = place(wanted, executors).assigned, place([*wanted, newest], executors).assigned
    assert {**before, "newest": after["newest"]} == dict(after)


def placed_one(wanted: Wanted, executors: list[ExecutorRoom]) -> tuple[Placement, str]:
    placement = place([wanted], executors)
    return placement, placement.short.get(wanted.pipeline, "")


@pytest.mark.parametrize(
    ("wanted", "lanes", "sentence"),
    [
        (Wanted("p", 3, cpus=2), [2, 1, 4], "asks for 3 replicas of 2 CPUs; 2 executors of 3 have room"),
        (Wanted("p", 1, cpus=1), [], "asks for 1 replica of 1 CPU; there is no executor"),
        (Wanted("p", 2), [1], "asks for 2 replicas; 1 executor of 1 has room"),
        (Wanted("p", 0, memory_bytes=3 << 29), [1], "asks for 1 replica of 1.5 GiB; 0 executors of 1 have room"),
        (
            Wanted("p", 2, 0.5, 900),
            [1, 1],
            "asks for 2 replicas of 0.5 CPUs and 900 bytes; 0 executors of 2 have room",
        ),
        (Wanted("p", 2), [1, 1], ""),
    ],
)
def test_what_is_short_is_said_in_a_sentence(wanted: Wanted, lanes: list[int], sentence: str) -> None:
    """Who asks for more than there is gets what there is, and reads what is missing."""
    rooms = [ExecutorRoom(f"e{number}", count, memory_bytes=512) for number, count in enumerate(lanes)]
    assert placed_one(wanted, rooms)[1] == sentence


def test_draining_executors_are_the_last_resort() -> None:
    """One that will leave gets a replica only where nothing else has room."""
    rooms = [ExecutorRoom("leaving", 64, draining=True), ExecutorRoom("staying", 1)]
    assert placed_one(Wanted("p", 1), rooms)[0].assigned["p"] == ("staying",)
    assert placed_one(Wanted("p", 2), rooms)[0].assigned["p"] == ("staying", "leaving")
    assert placed_one(Wanted("p", 1, cpus=2), rooms)[0].assigned["p"] == ("leaving",)


def test_work_is_shared_by_lanes() -> None:
    """An executor with three times the lanes gets three times the pipelines, within what chance does."""
    rooms = [ExecutorRoom("small", 2), ExecutorRoom("large", 6)]
    assigned = place([Wanted(f"p{number}") for number in range(2_000)], rooms).assigned
    large = sum(names == ("large",) for names in assigned.values())
    assert 1_400 < large < 1_600, f"{large} of 2,000; a fair share is 1,500"


@pytest.mark.slow
def test_a_thousand_pipelines_are_placed_anew_in_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 pipelines of 3 replicas on 200 executors with bounds: one leaves, and its part moves, within 1 s of computing."""
    wanted = [Wanted(f"pipeline-{number}", 3, cpus=0.1, memory_bytes=1 << 28) for number in range(1_000)]
    rooms = [ExecutorRoom(f"executor-{number}", 8, 64 << 30) for number in range(200)]
    before = place(wanted, rooms)
    start_s = time.process_time()
    after = place(wanted, rooms[1:])
    taken_s = time.process_time() - start_s
    moved = sum(len(set(after.assigned[name]) - set(before.assigned[name])) for name in before.assigned)
    with capsys.disabled():
        print(f"\nre-placed 1,000 pipelines on 199 executors in {taken_s:.3f} s; {moved} of 3,000 replicas moved")
    assert taken_s <= 1.0
    assert moved <= 30
    assert not after.short
