"""Names of models and pipelines."""

import re

from bettong_kit.errors import InvalidNameError

MAX_NAME_LENGTH = 63
"""The longest label that DNS allows: names become host names in a cluster."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def check_name(name: str, field: str) -> str:
    """Return *name* if it follows the rule.

    Args:
        name: What was given.
        field: Field of the request that it was given in.

    Raises:
        InvalidNameError: It is empty, too long or has other characters.
    """
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        rule = f"lower-case letters, digits and inner hyphens, 1 to {MAX_NAME_LENGTH} characters"
        raise InvalidNameError(
            f"{field} {name[:100]!r} is not a name; expected {rule}", fields={field: f"expected {rule}"}
        )
    return name
