"""Apt lists of a graph: each once, after the lists it extends, for one root."""

from __future__ import annotations

import pytest
from stagegraphs import graph

from buildkit.errors import DefinitionError
from buildkit.locks.apt_lists import AptList, find_apt_lists

BASE = '[root]\nsuite = "trixie"\npackages = "base.apt"'


def test_apt_lists_follow_the_lists_they_extend_and_appear_once() -> None:
    found = graph(
        a='from = "z"\n[apt]\npackages = "a.apt"',
        b='from = "a"\n[apt]\npackages = "b.apt"',
        other='[root]\nsuite = "bookworm"\nvariant = "apt"\ncomponents = ["main", "x"]\npackages = "other.apt"',
        z=BASE,
    )
    trixie = {"suite": "trixie", "variant": "minbase", "components": ("main",)}
    assert find_apt_lists(found) == (
        AptList(file="base.apt", **trixie),
        AptList(file="other.apt", suite="bookworm", variant="apt", components=("main", "x")),
        AptList(file="a.apt", **trixie, base=("base.apt",)),
        AptList(file="b.apt", **trixie, base=("base.apt", "a.apt")),
    )


def test_list_shared_by_two_equal_roots_appears_once() -> None:
    assert len(find_apt_lists(graph(x=BASE, y=BASE))) == 1


@pytest.mark.parametrize(
    "other",
    [BASE.replace("trixie", "bookworm"), BASE + '\nvariant = "apt"', 'from = "a"\n[apt]\npackages = "base.apt"'],
)
def test_list_used_by_two_different_roots_is_an_error(other: str) -> None:
    with pytest.raises(DefinitionError, match=r"stages/b/stage\.toml: base\.apt is already locked for another root"):
        find_apt_lists(graph(a=BASE, b=other, c='from = "b"'))


def test_apt_on_top_of_a_registry_image_is_refused() -> None:
    image = f'[root]\nimage = "x@sha256:{"0" * 64}"\n'
    with pytest.raises(DefinitionError, match=r"stages/b/stage\.toml: `apt` needs a Debian root") as caught:
        find_apt_lists(graph(a=image, b='from = "a"\n[apt]\npackages = "b.apt"'))
    assert "network = true" in caught.value.hint
