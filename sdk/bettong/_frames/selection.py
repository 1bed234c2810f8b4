"""Which columns a reply has, and how their names are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from bettong._errors import InvalidInputError

INPUTS = "in"
METADATA = "metadata"
TIME = "time"
_GROUPS = (TIME, INPUTS, "out", "anomaly", METADATA)


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
        """Return what to ask for: neither what the caller already has, nor metadata that is not named.

        A reply without columns is refused. Where the given columns may be all that is left, the time is asked for as well, so
        that the rows are checked and run as always.
        """
        hidden = [*self.exclude, INPUTS]
        if not any(_group(name) == METADATA for name in self.dataset):
            hidden.append(METADATA)
        if self._surely_takes_an_answer():
            return Selection(self.dataset, tuple(dict.fromkeys(hidden)), self.separator)
        others = dict.fromkeys(name for name in hidden if name != TIME)
        return Selection(tuple(dict.fromkeys([*self.dataset, TIME])), tuple(others), self.separator)

    def _surely_takes_an_answer(self) -> bool:
        """Return whether some column of the server's own is left, whatever the outputs are called."""
        if self.takes(TIME) or self.takes("anomaly.count"):
            return True
        excluded = {_group(name) for name in self.exclude}
        return any(group not in {"*", INPUTS, *excluded} for group in map(_group, self.dataset))

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
        InvalidInputError: The separator is empty, or what is to be left out is everything or nothing that a reply has.
    """
    if dataset is None and exclude is None and separator == ".":
        return EVERYTHING
    if not separator or not isinstance(separator, str):
        raise InvalidInputError("dataset_separator must be a text that is not empty", field="dataset_separator")
    selection = Selection(_names("dataset", dataset) or ("*",), _names("dataset_exclude", exclude), separator)
    _check_exclude(selection.exclude)
    return selection


def nothing_left() -> InvalidInputError:
    """Build the error for a selection that leaves no column, in the words of the server."""
    return InvalidInputError("no column of the reply is left", field="dataset")


def _check_exclude(exclude: Sequence[str]) -> None:
    """Refuse what the server would pass over, since it has no effect or none that anybody wants."""
    if "*" in exclude:
        raise nothing_left()
    for name in exclude:
        if _group(name) not in _GROUPS:
            known = ", ".join(_GROUPS)
            raise InvalidInputError(
                f"dataset_exclude '{name}' is no column of a reply; names begin with one of {known}",
                field="dataset_exclude",
            )


def _group(name: str) -> str:
    return name.partition(".")[0]


def _names(setting: str, given: Sequence[str] | str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    names = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(name, str) for name in names):
        raise InvalidInputError(f"{setting} must be names of columns, got {given!r}", field=setting)
    return names


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(pattern in {"*", name} or name.startswith(f"{pattern}.") for pattern in patterns)
