"""Estimated tar sizes of layers, which are exact for files and models."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from planfakes import composer

from buildkit.declare.stage import Copy
from buildkit.digest import FileHash
from buildkit.layers.files import CopiedFile, file_members
from buildkit.layers.models import model_members
from buildkit.layers.tar.header import BLOCK, DIRECTORY, FILE, SYMLINK, header_size, render_header
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.plan import LedgerView, make_plan
from buildkit.plan.sizes import estimate_size
from buildkit.plan.spec import Kind, PackFiles, PackModel, Tree, TreeFile

COMPOSITION = composer().compose("runtime")
FILES, MODEL, WHEELS, PREFIX = (
    next(spec for spec in COMPOSITION.specs if spec.kind is kind)
    for kind in (Kind.FILES, Kind.MODEL, Kind.WHEELS, Kind.PREFIX)
)
TREES: Mapping[str, Mapping[str, bytes | str]] = {  # text is where a link leads
    "nothing": {},
    "one small file": {"main.sh": b"echo hello\n"},
    "an empty file": {"empty": b""},
    "whole blocks": {"one": b"x" * 512, "two": b"x" * 1024, "more": b"x" * 513},
    "folders": {"a/b/c/d": b"1", "a/b/e": b"2", "a/f": b"3", "g/h": b"4"},
    "links": {"a": b"1", "b": "a", "far/away": "../" + "deep/" * 30 + "end", "täg": "ümläut"},
    "a long path": {"/".join(["folder-of-ours"] * 9) + "/file": b"1"},
    "a name that no header has room for": {"n" * 120 + "/" + "m" * 120: b"1"},
    "not ASCII": {"mödels/größe.txt": b"1", "mödels/日本.txt": b"22"},
}
TARGETS = ("/app", "/", "/opt/ours/" + "very-long/" * 8 + "app", "/äpp")


def sized(name: str, content: bytes | str) -> TreeFile:
    data = content.encode() if isinstance(content, str) else content
    link = content if isinstance(content, str) else ""
    return TreeFile(path=name, sha256=FileHash.of(data), size=len(data), link=link)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TREES)
def test_size_of_repository_files_is_exact(tmp_path: Path, name: str, target: str) -> None:
    tree = TREES[name]
    for path, content in tree.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (tmp_path / path).symlink_to(content)
        else:
            (tmp_path / path).write_bytes(content)
    members = file_members(tmp_path, [CopiedFile(path) for path in tree], target)
    packed = write_layer(members, io.BytesIO(), Compression.NONE)
    files = tuple(sized(*pair) for pair in sorted(tree.items()))
    work = PackFiles(tree=Tree(path="x", files=files), copy=Copy(source="x", target=target))
    assert estimate_size(replace(FILES, work=work)) == packed.unpacked


def test_size_of_a_single_copied_file_is_exact(tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_bytes(b"w" * 700)
    packed = write_layer(file_members(source, [CopiedFile(".")], "/etc/ours/words"), io.BytesIO(), Compression.NONE)
    tree = Tree(path="x/words.txt", files=(sized(".", b"w" * 700),))
    work = PackFiles(tree=tree, copy=Copy(source="words.txt", target="/etc/ours/words"))
    assert estimate_size(replace(FILES, work=work)) == packed.unpacked


def test_size_of_a_model_is_exact(tmp_path: Path) -> None:
    contents = {"config.json": b"{}", "sub/weights.bin": b"w" * 70_001}
    files = tuple(
        ModelFile(path=path, sha256=FileHash.of(data), size=len(data), source=path) for path, data in contents.items()
    )
    model = Model(name="m", version="", source=RepoSource(path=""), license="", files=files)
    members = model_members(model, lambda file: iter([contents[file.path]]), "/models/m")
    packed = write_layer(members, io.BytesIO(), Compression.NONE)
    work = PackModel(model=model, files=files, target="/models/m")
    assert estimate_size(replace(MODEL, work=work)) == packed.unpacked


def test_size_is_estimated_for_wheels_and_unknown_for_steps() -> None:
    assert estimate_size(WHEELS) == WHEELS.weight > 0
    assert estimate_size(PREFIX) == 0


def test_plan_uses_the_estimate_and_order_uses_weights() -> None:
    entries = make_plan(COMPOSITION, LedgerView(results={}, is_present=lambda _blob: False)).entries
    assert [entry.unpacked for entry in entries] == [estimate_size(entry.spec) for entry in entries]
    assert isinstance(FILES.work, PackFiles)
    assert FILES.weight == sum(file.size for file in FILES.work.tree.files) < estimate_size(FILES)


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 45])
@pytest.mark.parametrize("path", ["a", "a" * 100, "a" * 101, "a" * 50 + "/" + "b" * 60, "ä", "f/" * 200])
@pytest.mark.parametrize(("kind", "link"), [(FILE, ""), (DIRECTORY, ""), (SYMLINK, "x" * 100), (SYMLINK, "x" * 101)])
def test_header_size_equals_the_rendered_header(path: str, size: int, kind: bytes, link: str) -> None:
    assert header_size(path, size=size, link=link) == len(render_header(path, kind, size=size, link=link))
    assert header_size(path, size=size, link=link) % BLOCK == 0
