"""Compiling: from steps and signatures to the program that the engine runs.

Each input of a step is bound to a column that exists before the step: to the newest one that its `tensor_fields` name or its
own name finds. When that would use nothing of the step before, and the step before has as many outputs and all of them fit,
they are taken in order instead: many models call their input "input", and a chain means "feed it what came out".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bettong_domain.models import BatchMode, Model, ModelId, Signature, TensorSpec, batch_mode_of, makes_row, model_id
from bettong_domain.pipelines import PipelineKey
from bettong_domain.signatures import fits, joint_batch_mode
from bettong_kit.errors import IncompatibleStepsError


@dataclass(frozen=True, slots=True)
class Source:
    """Where a column comes from: step 0 is the pipeline's inputs, step n the outputs of the n-th step."""

    step: int
    index: int


@dataclass(frozen=True, slots=True)
class ProgramInput:
    """An input of the pipeline and the columns that also mean it."""

    spec: TensorSpec
    aliases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """Scalar columns that make one row of it."""


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """Run a model on columns that are already there."""

    model_id: ModelId
    inputs: tuple[Source, ...]
    model: Model


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """An output of the pipeline."""

    spec: TensorSpec
    source: Source


@dataclass(frozen=True, slots=True)
class Program:
    """A pipeline version, compiled."""

    key: PipelineKey
    inputs: tuple[ProgramInput, ...]
    steps: tuple[ProgramStep, ...]
    outputs: tuple[ProgramOutput, ...]
    batch_mode: BatchMode
    max_batch_rows: int
    max_batch_delay_us: int

    @property
    def signature(self) -> Signature:
        """Return what the pipeline takes and gives."""
        inputs = tuple(given.spec for given in self.inputs)
        return Signature(inputs, tuple(output.spec for output in self.outputs), self.batch_mode)

    @property
    def model_ids(self) -> frozenset[ModelId]:
        """Return the models that must be loaded."""
        return frozenset(step.model_id for step in self.steps)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that exists at some point of the chain, under all its names."""

    spec: TensorSpec
    names: frozenset[str]
    source: Source


def compile_program(key: PipelineKey, models: Sequence[Model]) -> Program:
    """Bind the steps of a chain to each other.

    Args:
        key: The version that is compiled.
        models: The model of each step, with the config that the step uses.

    Raises:
        IncompatibleStepsError: An input has no column that fits; names the step, the input and what was there.
    """
    inputs = _pipeline_inputs(models[0])
    known = [
        _Column(given.spec, frozenset({given.spec.name, *given.aliases}), Source(0, index))
        for index, given in enumerate(inputs)
    ]
    first = tuple(column.source for column in known)
    steps = [ProgramStep(_id_of(models[0]), first, models[0])]
    newest = _outputs_of(models[0], 1)
    for number, model in enumerate(models[1:], start=2):
        known = [*newest, *known]
        steps.append(ProgramStep(_id_of(model), _bind_step(number, model, known, newest), model))
        newest = _outputs_of(model, number)
    return Program(
        key=key,
        inputs=inputs,
        steps=tuple(steps),
        outputs=tuple(ProgramOutput(column.spec, column.source) for column in newest),
        batch_mode=joint_batch_mode(batch_mode_of(model.signature, model.config) for model in models),
        max_batch_rows=min((limit for model in models if (limit := model.config.max_batch_rows)), default=0),
        max_batch_delay_us=max(model.config.max_batch_delay_us for model in models),
    )


def _id_of(model: Model) -> ModelId:
    return model_id(model.sha256, batch_mode_of(model.signature, model.config))


def _pipeline_inputs(model: Model) -> tuple[ProgramInput, ...]:
    """Return the first model's inputs; its tensor fields are their aliases, or the parts of its only input."""
    specs, fields = model.signature.inputs, model.config.tensor_fields
    if not fields:
        return tuple(ProgramInput(spec) for spec in specs)
    if len(fields) == len(specs):
        return tuple(ProgramInput(spec, aliases=(field,)) for spec, field in zip(specs, fields, strict=True))
    return (ProgramInput(specs[0], parts=fields),)


def _outputs_of(model: Model, number: int) -> list[_Column]:
    outputs = enumerate(model.signature.outputs)
    return [_Column(spec, frozenset({spec.name}), Source(number, index)) for index, spec in outputs]


def _bind_step(number: int, model: Model, known: Sequence[_Column], previous: Sequence[_Column]) -> tuple[Source, ...]:
    """Find a column for each input of a step that is not the first."""
    wanted = model.signature.inputs
    found = [_find(known, name) for name in _names_wanted(model)]
    uses_previous = any(column in previous for column in found)
    if not uses_previous and len(wanted) == len(previous) and all(map(fits, (c.spec for c in previous), wanted)):
        return tuple(column.source for column in previous)
    for spec, column in zip(wanted, found, strict=True):
        if column is None:
            raise _unbound(number, model, spec, known)
        if not fits(column.spec, spec):
            raise _unfit(number, model, spec, column)
    return tuple(column.source for column in found if column is not None)


def _names_wanted(model: Model) -> list[tuple[str, ...]]:
    """Return, for each input, the names under which a column may be meant for it, best first."""
    specs, fields = model.signature.inputs, model.config.tensor_fields
    if len(fields) != len(specs):
        return [(spec.name,) for spec in specs]
    return [(field, spec.name) for spec, field in zip(specs, fields, strict=True)]


def _find(known: Sequence[_Column], names: tuple[str, ...]) -> _Column | None:
    """Return the newest column of the best name that there is."""
    return next((column for name in names for column in known if name in column.names), None)


def _unbound(number: int, model: Model, spec: TensorSpec, known: Sequence[_Column]) -> IncompatibleStepsError:
    there = ", ".join(f"'{name}' {column.spec}" for column in known for name in sorted(column.names))
    joined = len(model.config.tensor_fields) > len(model.signature.inputs) and makes_row(
        spec, len(model.config.tensor_fields)
    )
    hint = "; joining scalar columns into a row works in the first step only" if joined else ""
    message = f"step {number} ({model.key}): no column for input '{spec.name}' {spec}; there are {there}{hint}"
    return IncompatibleStepsError(message, fields={f"steps[{number - 1}]": message})


def _unfit(number: int, model: Model, spec: TensorSpec, column: _Column) -> IncompatibleStepsError:
    origin = f"output of step {column.source.step}" if column.source.step else "input of the pipeline"
    message = f"step {number} ({model.key}): input '{spec.name}' takes {spec}, but '{column.spec.name}', {origin}, is {column.spec}"
    return IncompatibleStepsError(message, fields={f"steps[{number - 1}]": message})
