"""What to paste into another terminal while the demo runs."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Where the demo serves, and how to ask it."""

    url: str
    control_address: str
    metrics_address: str
    pipeline: str
    record: Mapping[str, float]
    """A transaction to ask about."""

    @property
    def addresses(self) -> str:
        """Return the addresses in one line."""
        return f"data {self.url} · control {self.control_address} · metrics http://{self.metrics_address}/metrics"

    def curl(self) -> str:
        """Return a command for a shell."""
        body = json.dumps([self.record])
        return (
            f"curl -s '{self.url}/v1/pipelines/{self.pipeline}/infer?dataset[]=out' -g "
            f"-H 'Content-Type: application/json' -d '{body}'"
        )

    def snippet(self) -> str:
        """Return five lines of Python."""
        return (
            "import bettong\n"
            f'client = bettong.Client("{self.url}")\n'
            f"transaction = {json.dumps(self.record)}\n"
            f'reply = client.get_pipeline("{self.pipeline}").infer([transaction])\n'
            'print(reply[0]["out.fraud_probability"])'
        )

    def text(self) -> str:
        """Return everything, free of frames and indents, so that it can be marked and pasted."""
        return (
            f"{self.addresses}\n\nAsk it from another terminal:\n\n{self.curl()}\n\n"
            f"or in Python ({_interpreter()}):\n\n{self.snippet()}\n"
        )


def _interpreter() -> str:
    """Return how to call this interpreter, from here if it lies below."""
    path = Path(os.path.abspath(sys.executable))  # noqa: PTH100 - resolving would leave the environment
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
