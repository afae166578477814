"""Links of the documentation: files and headings that they name exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    return not file.exists() or (bool(anchor) and anchor not in anchors(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_name_existing_files_and_headings(page: Path) -> None:
    targets = _LINK.findall(prose(page))
    assert [target for target in targets if is_broken(page, target)] == []


def test_missing_file_and_missing_heading_are_broken() -> None:
    page = ROOT / "README.md"
    assert is_broken(page, "docs/absent.md")
    assert is_broken(page, "docs/delivery.md#no-such-heading")
    assert not is_broken(page, "docs/delivery.md#pushing")


def test_address_of_the_project_is_the_one_in_pyproject() -> None:
    """A move of the project changes pyproject.toml; this names what has to follow."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    address = urls["GitHub"]
    assert [url for url in urls.values() if url != address and not url.startswith(f"{address}/")] == []
    owner = address.rpartition("/")[0]
    named = re.compile(rf"xoe-buildkit @ git\+([^\s'\"]*)|({re.escape(owner)}/[\w.-]*)")
    found = {either for page in PAGES for place in named.findall(page.read_text("utf-8")) for either in place}
    assert found == {address, ""}


def test_every_page_of_docs_is_reachable_from_the_readme() -> None:
    reached: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (target.partition("#")[0] for target in _LINK.findall(prose(page)))
        left += [(page.parent / target).resolve() for target in targets if target]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - reached == set()
