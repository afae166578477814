"""Apt lists of a graph: each once, after the lists it extends, for one root."""

from __future__ import annotations

import pytest
from stagegraphs import graph

from buildkit.declare.apt_archives import Archives
from buildkit.declare.target import Target
from buildkit.digest import Digest, FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.apt_lists import AptList, find_apt_lists, hash_inputs
from buildkit.locks.images_lock import IMAGES_LOCK, ImageContents, LockedImage, render_images_lock

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


def test_list_on_top_of_a_registry_image_names_it_and_its_archives() -> None:
    image = '[root]\nimage = "docker.io/library/debian:13"\nsnapshot = "2026-11-20T00:00:00Z"\n'
    (found,) = find_apt_lists(graph(a=image, b='from = "a"\n[apt]\npackages = "b.apt"'))
    assert found == AptList(
        file="b.apt", image="docker.io/library/debian:13", archives=Archives(snapshot="20261120T000000Z")
    )


def test_inputs_of_a_list_on_an_image_follow_the_image_and_its_packages() -> None:
    listed = AptList(file="b.apt", image="docker.io/library/debian:13")

    def hashed(digest: str, **packages: str) -> FileHash:
        contents = {"amd64": ImageContents(id="debian", packages=packages)}
        platforms = {"linux/amd64": Digest(digest * 64)}
        image = LockedImage(
            name=listed.image, digest=Digest(digest * 64), locked="x", platforms=platforms, contents=contents
        )
        return hash_inputs(
            listed,
            "jq\n",
            {IMAGES_LOCK: render_images_lock({image.name: image})}.get,
            Target(python="3.13", glibc="2.41", arch="x86_64"),
        )

    first = hashed("a", apt="3.0")
    assert first == hashed("a", apt="3.0")
    assert len({first, hashed("b", apt="3.0"), hashed("a", apt="3.1")}) == 3
