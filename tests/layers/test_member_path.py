"""No packed member has a path that a runtime would interpret, or that leads out of the image."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.errors import BuildError
from buildkit.layers.tar.listing import read_listing
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.member_path import find_path_problem
from buildkit.layers.tar.whiteout import find_removed_path
from buildkit.layers.tar.writer import write_layer

PART = st.sampled_from(
    [
        "a",
        "a.wh.b",
        ".wh",
        ".wh.",
        ".wh.a",
        ".wh..wh..opq",
        ".",
        "..",
        "",
        "\0",
        "\n",
        "é",
        "\udc80",
        "x" * 255,
        "x" * 256,
    ]
)
PATH = st.lists(PART, min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize("path", [".wh.victim", "a/.wh.victim", "a/.wh..wh..opq", ".wh.a/b", ".wh.", "a/.wh..wh.aufs"])
@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_whiteout_is_refused_and_its_owner_named(path: str, kind: str) -> None:
    for owner in ({"wheel": "zeta-1.0-py3-none-any.whl"}, {"source": "stages/app/app/x"}):
        member = Member(path=path, kind=kind, target="t", **owner)
        with pytest.raises(BuildError, match="deletes files of the layers below") as caught:
            write_layer([member], io.BytesIO(), Compression.NONE)
        assert str(caught.value).startswith(f"{next(iter(owner.values()))}: ")


@settings(deadline=None, max_examples=300)
@given(paths=st.lists(PATH, max_size=4), kind=st.sampled_from(["file", "directory", "symlink"]))
def test_written_members_have_harmless_paths(paths: list[str], kind: str) -> None:
    out = io.BytesIO()
    try:
        write_layer([Member(path=path, kind=kind, target="t") for path in paths], out, Compression.NONE)
    except BuildError:
        return
    found = [path for path, _ in read_listing([out.getvalue()], "x", of_root=True)]
    assert set(found) <= set(paths)
    for path in found:
        assert find_removed_path(path) == ""
        assert not {"", ".", ".."} & set(path.split("/"))


@given(PATH)
def test_path_problem_is_a_phrase_or_nothing(path: str) -> None:
    problem = find_path_problem(path)
    dangerous = any(part.startswith(".wh.") or part in ("", ".", "..") for part in path.split("/"))
    assert problem.startswith("has a") if dangerous or "\0" in path or "\udc80" in path else True
    assert bool(problem) == (dangerous or "\0" in path or "\udc80" in path or "x" * 256 in path)
