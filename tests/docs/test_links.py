"""Links of the documentation lead somewhere."""

import re
from pathlib import Path

import pytest
from docs.pages import anchors, links, name_of, pages

# Assembled, so that this file does not contain what it looks for.
_MACHINE = re.compile("|".join(["/" + "root/", "/" + "work/", "/" + r"home/\w", "local" + "host:[0-9]{4,}"]))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_within_the_repository_exist(page: Path) -> None:
    """A relative link names a file or folder that is there, and a title that it has."""
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_elsewhere_are_encrypted(page: Path) -> None:
    """A link to another site is https."""
    assert [link for link in links(page) if re.match(r"[a-z]+:", link) and not link.startswith("https://")] == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_pages_speak_of_no_machine(page: Path) -> None:
    """Nothing in a page only exists where it was written."""
    assert _MACHINE.findall(page.read_text(encoding="utf-8")) == []


def test_every_guide_and_decision_can_be_reached_from_the_readme() -> None:
    """Following links from the README leads to every page under docs."""
    start = next(page for page in pages() if name_of(page) == "README.md")
    seen, waiting = set(), [start.resolve()]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if ":" not in link]
    assert [name_of(page) for page in pages() if name_of(page).startswith("docs/") and page.resolve() not in seen] == []
