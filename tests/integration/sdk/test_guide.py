"""The guide for clients, as a reader runs it."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from fakes.models import linear_model

GUIDE = Path(__file__).resolve().parents[3] / "docs/guides/client.md"


async def test_every_block_of_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python blocks run one after the other in a folder that is as the guide says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "fraud.onnx").write_bytes(linear_model(29, name_in="features", name_out="score"))
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 8
    names: dict[str, object] = {}
    for block in blocks:
        code = compile(block, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)  # noqa: S307 - our own guide
        if inspect.isawaitable(running):
            await running
    assert "[2871.0]" in capsys.readouterr().out
