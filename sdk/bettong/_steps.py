from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bettong._errors import InvalidInputError
from bettong.v1 import pipelines_pb2

if TYPE_CHECKING:
    from bettong._models import ModelVersion


@dataclass(frozen=True, slots=True)
class ModelStep:
    """Run one version of a model.

    Attributes:
        name: Name of the model.
        version: Version of the model.
    """

    name: str
    version: int


class StepsDraft:
    """The steps of a pipeline while it is edited; each method that changes them returns the pipeline."""

    def __init__(self, steps: list[ModelStep], version: int | None) -> None:
        self._steps = steps
        self._fetched_version = version
        """The version that the steps were fetched from, as long as they are what it has."""

    def steps(self) -> list[ModelStep]:
        """Return the steps in order."""
        return list(self._steps)

    def add_model_step(self, model: "ModelVersion") -> Self:
        """Append a step that runs a model on what the step before it gives."""
        self._edited().append(_step(model))
        return self

    def replace_with_model_step(self, index: int, model: "ModelVersion") -> Self:
        """Put another model into step *index*, counted from 0.

        Raises:
            InvalidInputError: There is no such step.
        """
        self._check_index(index)
        self._edited()[index] = _step(model)
        return self

    def remove_step(self, index: int) -> Self:
        """Remove step *index*, counted from 0.

        Raises:
            InvalidInputError: There is no such step.
        """
        self._check_index(index)
        del self._edited()[index]
        return self

    def clear(self) -> Self:
        """Remove every step."""
        self._edited().clear()
        return self

    def _edited(self) -> list[ModelStep]:
        self._fetched_version = None
        return self._steps

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self._steps):
            raise InvalidInputError(f"there is no step {index}; the pipeline has {len(self._steps)}", field="index")


def steps_to_pb(steps: list[ModelStep]) -> list[pipelines_pb2.Step]:
    """Convert steps for the wire."""
    return [
        pipelines_pb2.Step(
            model=pipelines_pb2.ModelStep(model=pipelines_pb2.ModelRef(name=step.name, version=step.version))
        )
        for step in steps
    ]


def steps_from_pb(message: pipelines_pb2.Pipeline) -> list[ModelStep]:
    """Convert the steps of a version from the wire."""
    return [ModelStep(step.model.model.name, step.model.model.version) for step in message.steps]


def _step(model: "ModelVersion") -> ModelStep:
    try:
        return ModelStep(model.name(), model.version())
    except AttributeError:
        raise InvalidInputError(
            f"a step needs a model version, as upload_model and get_model return it, not {type(model).__name__}"
        ) from None
