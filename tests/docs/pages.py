"""The documentation as tests see it: pages, their fenced blocks, their tables.

The words after the language of a block say what a test does with it:

==========================  =======================================================================================
```python                   runs, in the page's one namespace; `await` works at the top level
```sh                       runs under `bash -eu`; `make` only says what it would do
```sh server                starts a server in the foreground, which goes on until the next one or the page's end
```sh ends-server           runs, after which the server must have ended with exit code 0
```text output              is what the block before printed; `…` stands for anything
```json                     is JSON
```toml settings            is a settings file that the server accepts
```python|sh no-run WHY     is only parsed; the test says why it does not run
```text, ```mermaid, ```ini is for people
==========================  =======================================================================================
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TESTED_ELSEWHERE = {
    "docs/guides/client.md": "tests/integration/sdk/test_guide.py",
    "docs/guides/operate-a-cluster.md": "tests/e2e/test_cluster_command.py",
    "docs/guides/demo.md": "tests/integration/demo/test_run.py",
    "examples/fraud/README.md": "tests/integration/demo/test_models.py",
}
"""Pages whose commands are run by other tests."""

_FENCE = re.compile(r"^```(?P<language>[a-z]*) ?(?P<tag>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_ANY_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    tag: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether a test executes it."""
        return self.language in {"python", "sh"} and not self.tag.startswith("no-run")


def pages() -> list[Path]:
    """Return every page of the repository's own documentation."""
    folders = ("docs", "deploy", "examples", "protos", "bench")
    nested = [page for folder in folders for page in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *nested])


def name_of(page: Path) -> str:
    """Return the path of a page within the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match["language"], match["tag"], match["text"])
        for match in _FENCE.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, outside of blocks."""
    prose = _ANY_FENCE.sub("", page.read_text(encoding="utf-8"))
    return [match["target"] for match in _LINK.finditer(prose)]


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind `#`: the titles, as they are shown on the web."""
    prose = _ANY_FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = (match["title"].lower() for match in _HEADING.finditer(prose))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def table(page: Path, header: str) -> list[list[str]]:
    """Return the rows of the table whose first line is *header*, cell by cell, without back quotes.

    Raises:
        AssertionError: There is no such table.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    assert header in lines, f"{name_of(page)} has no table '{header}'"
    rows = []
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")])
    return [[cell.strip() for cell in row] for row in rows]
