"""The rule for names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bettong_domain.names import MAX_NAME_LENGTH, check_name
from bettong_kit.errors import InvalidNameError


@pytest.mark.parametrize("name", ["a", "0", "cc-fraud", "a--b", "a" * MAX_NAME_LENGTH])
def test_dns_labels_are_names(name: str) -> None:
    """A name can become a host name."""
    assert check_name(name, "name") == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "a b", "ä", "a\n", "a/b", "a" * (MAX_NAME_LENGTH + 1)]
)
def test_others_are_refused_with_the_field(name: str) -> None:
    """The message names the field and the rule."""
    with pytest.raises(InvalidNameError, match="expected lower-case letters") as caught:
        check_name(name, "pipeline")
    assert list(caught.value.fields) == ["pipeline"]


@given(st.text(alphabet="ab0-_A.", max_size=70))
def test_the_rule_is_the_one_that_is_documented(name: str) -> None:
    """The documented expression and the check agree."""
    documented = bool(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)) and len(name) <= 63
    try:
        accepted = check_name(name, "name") == name
    except InvalidNameError:
        accepted = False
    assert accepted == documented
