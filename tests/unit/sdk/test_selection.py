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


@pytest.mark.parametrize(
    ("dataset", "exclude", "asks_time"),
    [
        (["in"], None, True),
        (["in.a"], None, True),
        (["*"], ["time", "out", "anomaly"], True),
        (["in", "out"], ["out.y"], True),
        (["in", "out"], None, False),
        (["out"], ["time"], False),
        (["metadata.elapsed"], None, False),
    ],
)
def test_a_reply_of_given_columns_alone_is_asked_with_the_time(
    dataset: list[str],
    exclude: list[str] | None,
    asks_time: bool,
) -> None:
    """The server refuses a reply without columns, and given columns do not travel back."""
    asked = selection_of(dataset, exclude, ".").for_server()
    assert (asked.takes("time"), "in" in asked.exclude) == (asks_time, True)


@pytest.mark.parametrize("exclude", [["nope"], ["metdata.elapsed"], "inn", "*"])
def test_excluding_what_no_reply_has_is_refused(exclude: list[str] | str) -> None:
    """A name that means nothing would have no effect without a word."""
    with pytest.raises(bettong.InvalidInputError, match="no column"):
        selection_of(None, exclude, ".")


def test_names_are_texts() -> None:
    """A number is no name of a column."""
    with pytest.raises(bettong.InvalidInputError, match="dataset must be names of columns"):
        selection_of([1], None, ".")  # type: ignore[list-item]
