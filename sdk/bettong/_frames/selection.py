"""Which columns a reply has, and how their names are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from bettong._errors import InvalidInputError

INPUTS = "in"
METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Selection:
    """What `dataset`, `dataset_exclude` and `dataset_separator` ask for."""

    dataset: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    separator: str = "."

    def takes(self, name: str) -> bool:
        """Return whether the reply has a column; *name* is written with dots."""
        return _matches(name, self.dataset) and not _matches(name, self.exclude)

    def for_server(self) -> "Selection":
        """Return what to ask for: neither what the caller already has, nor metadata that is not named."""
        hidden = [*self.exclude, INPUTS]
        if not any(name.split(".")[0] == METADATA for name in self.dataset):
            hidden.append(METADATA)
        return Selection(self.dataset, tuple(dict.fromkeys(hidden)), self.separator)

    def query(self) -> str:
        """Return the query for the server."""
        asked = self.for_server()
        pairs = [("dataset[]", name) for name in asked.dataset]
        pairs += [("dataset.exclude[]", name) for name in asked.exclude]
        return urlencode([*pairs, ("dataset.separator", asked.separator)], safe="[]*")

    def input_names(self, columns: Iterable[str]) -> list[tuple[str, str]]:
        """Return (column, name in the reply) of each given column that the reply has."""
        return [(column, f"{INPUTS}{self.separator}{column}") for column in columns if self.takes(f"{INPUTS}.{column}")]


EVERYTHING = Selection()


def selection_of(
    dataset: Sequence[str] | str | None, exclude: Sequence[str] | str | None, separator: str | None
) -> Selection:
    """Build a selection from what a user gave.

    Raises:
        InvalidInputError: The separator is empty.
    """
    if dataset is None and exclude is None and separator == ".":
        return EVERYTHING
    if not separator:
        raise InvalidInputError("dataset_separator must not be empty", field="dataset_separator")
    return Selection(_names(dataset) or ("*",), _names(exclude), separator)


def _names(given: Sequence[str] | str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(pattern in {"*", name} or name.startswith(f"{pattern}.") for pattern in patterns)
