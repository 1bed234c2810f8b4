"""Models and how they are fed."""

import pytest
from fakes.values import model, spec

from bettong_domain.models import BatchMode, ModelConfig, ModelKey, Signature, batch_mode_of, check_config, model_id
from bettong_kit.errors import InvalidArgumentError

ONE_WIDE = Signature((spec("x", -1, 3),), (spec("y", -1, 1),), BatchMode.ROWS)
TWO = Signature((spec("a", -1), spec("b", -1)), (spec("y", -1, 1),), BatchMode.ROWS)


def test_fields_are_counted_against_the_inputs() -> None:
    """One name for each input fits."""
    check_config(ModelConfig(tensor_fields=("p", "q")), TWO)


def test_fields_may_be_the_columns_of_one_wide_input() -> None:
    """Three scalar columns make a row of three."""
    check_config(ModelConfig(tensor_fields=("p", "q", "r")), ONE_WIDE)


@pytest.mark.parametrize(
    ("fields", "signature"),
    [
        (("p", "q"), ONE_WIDE),
        (("p",), TWO),
        (("p", "q", "r"), TWO),
        (("p", "p"), TWO),
        (("p", ""), TWO),
        (("p", "q"), Signature((spec("x", -1, 2, datatype="BYTES"),), (), BatchMode.ROWS)),
    ],
)
def test_fields_that_fit_nothing_are_refused(fields: tuple[str, ...], signature: Signature) -> None:
    """A typo is found when the model is configured, not when it is asked."""
    with pytest.raises(InvalidArgumentError, match="^tensor_fields: ") as caught:
        check_config(ModelConfig(tensor_fields=fields), signature)
    assert list(caught.value.fields) == ["tensor_fields"]


def test_a_free_width_takes_any_number_of_columns() -> None:
    """A file that does not say how wide it is cannot be contradicted."""
    check_config(ModelConfig(tensor_fields=("p", "q")), Signature((spec("x", -1, -1),), (), BatchMode.ROWS))


@pytest.mark.parametrize("wanted", list(BatchMode))
def test_a_model_of_rows_can_be_run_in_every_mode(wanted: BatchMode) -> None:
    """Joining can be given up."""
    check_config(ModelConfig(batch_mode=wanted), ONE_WIDE)


@pytest.mark.parametrize(
    ("allowed", "wanted"),
    [(BatchMode.SINGLE, BatchMode.ROWS), (BatchMode.WHOLE, BatchMode.ROWS), (BatchMode.WHOLE, BatchMode.SINGLE)],
)
def test_a_mode_that_the_shapes_forbid_is_refused(allowed: BatchMode, wanted: BatchMode) -> None:
    """A fixed first dimension cannot become rows by wishing."""
    signature = Signature(ONE_WIDE.inputs, ONE_WIDE.outputs, allowed)
    with pytest.raises(InvalidArgumentError, match=f"allow .*{allowed.value}.*not {wanted.value}"):
        check_config(ModelConfig(batch_mode=wanted), signature)


def test_the_configured_mode_wins() -> None:
    """What the user says beats what the file allows."""
    assert batch_mode_of(ONE_WIDE, ModelConfig()) is BatchMode.ROWS
    assert batch_mode_of(ONE_WIDE, ModelConfig(batch_mode=BatchMode.SINGLE)) is BatchMode.SINGLE


def test_the_engines_id_tells_how_the_file_is_run() -> None:
    """One file in two modes is two loaded models."""
    assert model_id("ab", BatchMode.ROWS) == "ab:rows"
    assert model_id("ab", BatchMode.SINGLE) == "ab:single"


def test_configuring_makes_a_new_value_and_checks_it() -> None:
    """The old value is not changed."""
    before = model("m", ONE_WIDE.inputs, ONE_WIDE.outputs)
    after = before.configured(ModelConfig(tensor_fields=("t",)))
    assert (before.config.tensor_fields, after.config.tensor_fields) == ((), ("t",))
    with pytest.raises(InvalidArgumentError):
        before.configured(ModelConfig(tensor_fields=("p", "q")))


def test_keys_and_specs_read_well() -> None:
    """They are parts of messages for people."""
    assert str(ModelKey("m", 2)) == "m version 2"
    assert str(spec("x", -1, 29)) == "FP32[-1,29]"
