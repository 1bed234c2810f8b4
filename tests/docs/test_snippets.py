"""What the documentation tells people to type does what it says."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
from docs.pages import TESTED_ELSEWHERE, Block, blocks, name_of, pages
from docs.reader import BASH, reading

_KINDS = {
    "python": {"", "no-run"},
    "sh": {"", "server", "ends-server", "no-run"},
    "text": {"", "output"},
    "json": {""},
    "toml": {"settings"},
    "ini": {""},
    "mermaid": {""},
}

_OURS = [page for page in pages() if name_of(page) not in TESTED_ELSEWHERE]
_BLOCKS = [block for page in _OURS for block in blocks(page)]
_NOT_RUN = [block for block in _BLOCKS if block.tag.startswith("no-run")]
_RUN = [page for page in _OURS if any(block.runs for block in blocks(page))]


@pytest.mark.parametrize("block", _BLOCKS, ids=lambda block: block.place)
def test_every_block_is_of_a_known_kind_and_can_be_parsed(block: Block) -> None:
    """No block is left out because its kind was misspelt, and none has a syntax error, run or not."""
    kind = block.tag.split(" ")[0]
    assert kind in _KINDS.get(block.language, set()), f"{block.place}: ```{block.language} {block.tag}"
    if block.language == "python":
        compile(block.text, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    elif block.language == "sh":
        subprocess.run([BASH, "-n", "-c", block.text], check=True)
    elif block.language == "json":
        json.loads(block.text)


@pytest.mark.parametrize("page", _RUN, ids=name_of)
async def test_a_page_works_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who types every block of a page in order sees what the page says, with servers on free ports."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BETTONG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BETTONG_URL", "")
    async with reading(tmp_path, os.environ) as reader:
        for block in blocks(page):
            await reader.follow(block)
    if reader.left_out:
        pytest.skip("; ".join(reader.left_out))


@pytest.mark.parametrize("block", _NOT_RUN, ids=lambda block: block.place)
def test_what_is_not_run_says_why(block: Block) -> None:
    """A block that no test runs gives its reason, which the report of every run shows."""
    reason = block.tag.removeprefix("no-run").strip()
    assert len(reason.split()) > 1, f"{block.place}: no reason"
    pytest.skip(f"{block.place}: {reason}")


@pytest.mark.parametrize(("page", "test"), TESTED_ELSEWHERE.items())
def test_pages_of_other_tests_are_there(page: str, test: str) -> None:
    """A page that is left to another test exists, and so does that test."""
    root = Path(__file__).resolve().parents[2]
    assert ((root / page).is_file(), (root / test).is_file()) == (True, True)
