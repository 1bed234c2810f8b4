"""What a process remembers about those before it that died."""

import os
from pathlib import Path

import pytest
from fakes.clock import ManualClock
from fakes.values import model, spec

from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program, compile_program
from bettong_executor.quarantine import CRASHES, Quarantine
from bettong_kit.errors import DataFolderError, UnavailableError

HOUR_S = 3600


def _program(name: str = "p", version: int = 1) -> Program:
    return compile_program(PipelineKey(name, version), [model("m", (spec("x", -1, 4),), (spec("y", -1, 1),))])


def _die(folder: Path, clock: ManualClock, line: str) -> Quarantine:
    """Die while something runs, and start again."""
    with (folder / "crashes").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return Quarantine(folder, clock)


def test_what_never_crashed_may_run(tmp_path: Path) -> None:
    """As in a new folder."""
    Quarantine(tmp_path, ManualClock()).check(_program())


def test_a_program_is_left_alone_after_some_crashes(tmp_path: Path) -> None:
    """Other programs and other versions are not; the memory outlives the process."""
    clock = ManualClock()
    for _ in range(CRASHES - 1):
        _die(tmp_path, clock, "run p 1").check(_program())
    for quarantine in (_die(tmp_path, clock, "run p 1"), Quarantine(tmp_path, clock)):
        with pytest.raises(UnavailableError, match="it brought this executor down 3 times"):
            quarantine.check(_program())
        quarantine.check(_program("p", 2))
        quarantine.check(_program("q"))


def test_a_model_that_crashes_when_it_is_loaded_is_left_alone(tmp_path: Path) -> None:
    """In whatever program it is."""
    (model_id,) = _program().model_ids
    for _ in range(CRASHES):
        quarantine = _die(tmp_path, ManualClock(), f"load {model_id}")
    with pytest.raises(UnavailableError, match="^a model of it brought this executor down"):
        quarantine.check(_program("q", 7))


def test_crashes_count_for_a_day(tmp_path: Path) -> None:
    """One a week is no reason; and after a day it is tried again."""
    clock = ManualClock()
    for _ in range(CRASHES):
        quarantine = _die(tmp_path, clock, "run p 1")
        clock.advance(13 * HOUR_S)
    quarantine.check(_program())
    for _ in range(CRASHES):
        clock.advance(HOUR_S)
        quarantine = _die(tmp_path, clock, "run p 1")
    with pytest.raises(UnavailableError) as refused:
        quarantine.check(_program())
    assert refused.value.retry_after_s == 22 * HOUR_S
    clock.advance(22 * HOUR_S)
    quarantine.check(_program())


def test_many_crashes_take_no_more_room(tmp_path: Path) -> None:
    """Only as many are kept as count."""
    clock = ManualClock()
    for _ in range(100):
        _die(tmp_path, clock, "run p 1")
    assert (tmp_path / "quarantine.json").stat().st_size < 200


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"run p 1": 7}'])
def test_a_damaged_memory_is_begun_anew(tmp_path: Path, text: str) -> None:
    """It must not keep the process from starting."""
    (tmp_path / "quarantine.json").write_text(text)
    Quarantine(tmp_path, ManualClock()).check(_program())


def test_half_a_line_is_not_believed_to_be_another_program(tmp_path: Path) -> None:
    """A dying thread may not get to the end of it."""
    for _ in range(CRASHES):
        quarantine = _die(tmp_path, ManualClock(), "run p")
    quarantine.check(_program())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """At the start, when somebody looks."""
    tmp_path.chmod(0o500)
    with pytest.raises(DataFolderError, match="cannot be used"):
        Quarantine(tmp_path, ManualClock())
