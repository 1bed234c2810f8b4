"""Compiling chains."""

import pytest
from fakes.values import model, spec

from bettong_domain.models import BatchMode, Model, ModelConfig
from bettong_domain.pipelines import MAX_STEPS, PipelineKey, check_step_count
from bettong_domain.plans import ProgramInput, Source, compile_program
from bettong_kit.errors import IncompatibleStepsError, InvalidArgumentError

KEY = PipelineKey("p", 1)


def _sources(*models: Model) -> list[tuple[Source, ...]]:
    return [step.inputs for step in compile_program(KEY, models).steps]


FEATURES = model("features", (spec("raw", -1, 4),), (spec("scaled", -1, 4), spec("total", -1, 1)))


def test_one_model_is_its_own_pipeline() -> None:
    """Inputs and outputs are the model's, under the model's names."""
    program = compile_program(KEY, [FEATURES])
    assert program.signature == FEATURES.signature
    assert program.inputs == (ProgramInput(spec("raw", -1, 4)),)
    assert [output.source for output in program.outputs] == [Source(1, 0), Source(1, 1)]
    assert program.model_ids == {f"{FEATURES.sha256}:rows"}


def test_fields_of_the_first_model_are_aliases_of_its_inputs() -> None:
    """A column may be called as the user calls it."""
    first = model("m", (spec("a", -1), spec("b", -1)), (spec("y", -1),), config=ModelConfig(tensor_fields=("p", "q")))
    assert [given.aliases for given in compile_program(KEY, [first]).inputs] == [("p",), ("q",)]


def test_many_fields_are_the_parts_of_one_wide_input() -> None:
    """Scalar columns are joined into a row."""
    first = model("m", (spec("x", -1, 2),), (spec("y", -1),), config=ModelConfig(tensor_fields=("p", "q")))
    (given,) = compile_program(KEY, [first]).inputs
    assert (given.aliases, given.parts) == ((), ("p", "q"))


def test_a_step_takes_columns_by_name() -> None:
    """Outputs of the step before feed inputs of the same name, in any order."""
    second = model("m", (spec("total", -1, 1), spec("scaled", -1, 4)), (spec("y", -1, 1),))
    assert _sources(FEATURES, second)[1] == (Source(1, 1), Source(1, 0))


def test_a_step_may_also_take_inputs_of_the_pipeline() -> None:
    """Every column that was there before is still there."""
    second = model("m", (spec("scaled", -1, 4), spec("raw", -1, 4)), (spec("y", -1, 1),))
    assert _sources(FEATURES, second)[1] == (Source(1, 0), Source(0, 0))


def test_the_newest_column_of_a_name_is_taken() -> None:
    """A step that rewrites a column is believed."""
    rewrite = model("rewrite", (spec("raw", -1, 4),), (spec("raw", -1, 4),))
    last = model("last", (spec("raw", -1, 4),), (spec("y", -1, 1),))
    assert _sources(rewrite, rewrite, last)[2] == (Source(2, 0),)


def test_a_step_takes_columns_by_its_fields() -> None:
    """`tensor_fields` names earlier columns in the order of the inputs."""
    fields = ModelConfig(tensor_fields=("total", "scaled"))
    second = model("m", (spec("a", -1, 1), spec("b", -1, 4)), (spec("y", -1, 1),), config=fields)
    assert _sources(FEATURES, second)[1] == (Source(1, 1), Source(1, 0))


def test_fields_beat_the_models_own_names() -> None:
    """What the user wrote is meant more than what a converter called it."""
    first = model("first", (spec("x", -1),), (spec("u", -1), spec("v", -1)))
    second = model("m", (spec("u", -1),), (spec("y", -1),), config=ModelConfig(tensor_fields=("v",)))
    assert _sources(first, second)[1] == (Source(1, 1),)


def test_a_step_takes_the_outputs_before_it_in_order() -> None:
    """Without a name in common the outputs are taken by position when all fit."""
    first = model("first", (spec("x", -1, 2),), (spec("u", -1, 3), spec("v", -1, 1)))
    second = model("second", (spec("a", -1, 3), spec("b", -1, 1)), (spec("y", -1),))
    assert _sources(first, second)[1] == (Source(1, 0), Source(1, 1))


def test_equal_input_names_do_not_bypass_the_step_before() -> None:
    """Two models that both call their input "x" are a chain, not two readers of the same column."""
    first = model("first", (spec("x", -1, 4),), (spec("y", -1, 4),))
    second = model("second", (spec("x", -1, 4),), (spec("y", -1, 1),))
    assert _sources(first, second)[1] == (Source(1, 0),)


def test_a_step_that_cannot_take_the_one_before_takes_older_columns_by_name() -> None:
    """A side branch is fine when the shapes leave no other reading."""
    first = model("first", (spec("x", -1, 4),), (spec("u", -1, 1),))
    second = model("second", (spec("x", -1, 4),), (spec("v", -1, 1),))
    third = model("third", (spec("u", -1, 1), spec("v", -1, 1)), (spec("y", -1, 1),))
    assert _sources(first, second, third)[1:] == [(Source(0, 0),), (Source(1, 0), Source(2, 0))]


def test_a_missing_column_is_refused_with_what_was_there() -> None:
    """The message names the step, the input and every column that it could have meant."""
    second = model("m", (spec("scaled", -1, 4), spec("age", -1)), (spec("y", -1, 1),))
    with pytest.raises(IncompatibleStepsError) as caught:
        compile_program(KEY, [FEATURES, second])
    assert caught.value.message == (
        "step 2 (m version 1): no column for input 'age' FP32[-1]; "
        "there are 'scaled' FP32[-1,4], 'total' FP32[-1,1], 'raw' FP32[-1,4]"
    )
    assert list(caught.value.fields) == ["steps[1]"]


@pytest.mark.parametrize(
    ("wanted", "origin"),
    [("scaled", "output of step 1, is FP32[-1,4]"), ("raw", "input of the pipeline, is FP32[-1,4]")],
)
def test_a_column_of_another_shape_is_refused(wanted: str, origin: str) -> None:
    """The message names both shapes and where the column comes from."""
    second = model("m", (spec(wanted, -1, 5),), (spec("y", -1, 1),))
    with pytest.raises(IncompatibleStepsError) as caught:
        compile_program(KEY, [FEATURES, second])
    assert f"input '{wanted}' takes FP32[-1,5], but '{wanted}', {origin}" in caught.value.message


def test_joining_columns_is_refused_after_the_first_step() -> None:
    """The message says that it is known and not done, instead of calling the column missing."""
    second = model("m", (spec("x", -1, 2),), (spec("y", -1),), config=ModelConfig(tensor_fields=("p", "q")))
    with pytest.raises(IncompatibleStepsError, match="works in the first step only"):
        compile_program(KEY, [FEATURES, second])


def test_a_chain_has_the_strictest_limits_of_its_models() -> None:
    """The shortest batch and the longest wait count; 0 is no limit."""
    first = model("a", (spec("x", -1),), (spec("x", -1),), config=ModelConfig(max_batch_rows=64, max_batch_delay_us=5))
    second = model("b", (spec("x", -1),), (spec("x", -1),), config=ModelConfig(batch_mode=BatchMode.SINGLE))
    third = model("c", (spec("x", -1),), (spec("x", -1),), config=ModelConfig(max_batch_rows=32))
    program = compile_program(KEY, [first, second, third])
    assert (program.max_batch_rows, program.max_batch_delay_us, program.batch_mode) == (32, 5, BatchMode.SINGLE)


def test_no_limit_stays_no_limit() -> None:
    """0 lets the engine decide."""
    assert compile_program(KEY, [FEATURES]).max_batch_rows == 0


@pytest.mark.parametrize("count", [0, MAX_STEPS + 1])
def test_a_chain_has_a_sensible_length(count: int) -> None:
    """Neither nothing nor a runaway loop is a pipeline."""
    with pytest.raises(InvalidArgumentError, match=f"1 to {MAX_STEPS} steps, {count} given"):
        check_step_count(count)


def test_ordinary_lengths_pass() -> None:
    """One step is enough, and the longest chain is allowed."""
    check_step_count(1)
    check_step_count(MAX_STEPS)


def test_keys_read_well() -> None:
    """They are parts of messages for people."""
    assert str(KEY) == "p version 1"
