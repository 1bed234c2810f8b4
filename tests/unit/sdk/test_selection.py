"""Which columns are asked for and kept."""

import pytest

import bettong
from bettong._frames.selection import EVERYTHING, selection_of


def test_everything_leaves_metadata_and_given_columns_out() -> None:
    """By default neither metadata nor what the caller already has travels back."""
    assert EVERYTHING.query() == "dataset[]=*&dataset.exclude[]=in&dataset.exclude[]=metadata&dataset.separator=."


def test_metadata_is_asked_for_when_named() -> None:
    """A group or a single column of the metadata brings it in."""
    for names in (["time", "metadata"], ["metadata.elapsed"], "metadata"):
        assert "exclude[]=metadata" not in selection_of(names, None, ".").query()


@pytest.mark.parametrize(
    ("dataset", "exclude", "expected"),
    [
        (None, None, ["a", "b.c"]),
        (["in"], None, ["a", "b.c"]),
        (["in.a"], None, ["a"]),
        (["out"], None, []),
        (["*"], ["in.b"], ["a"]),
        (["*"], "in", []),
        (["in.b"], None, ["b.c"]),
    ],
)
def test_given_columns_follow_the_same_rules(
    dataset: list[str] | None, exclude: list[str] | str | None, expected: list[str]
) -> None:
    """`dataset` and `dataset_exclude` choose among the given columns as among the others."""
    names = selection_of(dataset, exclude, ".").input_names(["a", "b.c"])
    assert [column for column, _ in names] == expected


def test_separator_joins_the_parts() -> None:
    """The separator is used for the given columns and asked for the others."""
    selection = selection_of(None, None, "_")
    assert selection.input_names(["a"]) == [("a", "in_a")]
    assert selection.query().endswith("dataset.separator=_")


def test_empty_separator_is_refused() -> None:
    """Names without a separator could not be told apart."""
    with pytest.raises(bettong.InvalidInputError, match="dataset_separator"):
        selection_of(None, None, "")
