"""Files that are read again and again: what they say now counts, also when one of the same name takes their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.monitor.hierarchy import V2, parse_cgroup_mounts
from buildkit.tools.held_files import HeldFiles, read_once


def opened() -> set[str]:
    """What this process has open."""
    links = list(Path("/proc/self/fd").iterdir())
    return {str(link.readlink()) for link in links if link.is_symlink()}


def test_a_held_file_says_what_it_says_now(tmp_path: Path) -> None:
    path, files = tmp_path / "x", HeldFiles(1)
    for text in ("a\n", "", "longer\n" * 2000, "é"):
        path.write_text(text)
        assert files.read(str(path)) == text
    assert str(path) in opened()


def test_so_many_are_held_and_no_more_and_none_that_are_not_kept(tmp_path: Path) -> None:
    files = HeldFiles(2)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    for _ in range(3):
        assert [files.read(str(path)) for path in paths] == ["a", "b", "c"]
    assert {str(path) for path in paths} & opened() == {str(tmp_path / "a"), str(tmp_path / "b")}
    files.keep([str(tmp_path / "b")])
    assert {str(path) for path in paths} & opened() == {str(tmp_path / "b")}
    assert files.read(str(tmp_path / "c")) == "c"
    files.keep(())
    assert not {str(path) for path in paths} & opened()


def test_what_cannot_be_read_is_empty_and_not_held(tmp_path: Path) -> None:
    files = HeldFiles()
    before = opened()
    assert [files.read(path) for path in (str(tmp_path / "none"), str(tmp_path), "/proc/self/mem")] == ["", "", ""]
    assert read_once(str(tmp_path)) == ""
    assert opened() == before


def test_a_group_of_the_kernel_that_is_gone_is_empty_and_a_new_one_of_its_name_is_read() -> None:
    mounts = parse_cgroup_mounts(Path("/proc/self/mountinfo").read_text())
    folders = [Path(one.folder) for one in mounts if {"memory", "pids", V2} & set(one.controllers)]
    made = [folder / f"held-{os.getpid()}" for folder in folders if os.access(folder, os.W_OK)]
    if not made:
        pytest.skip("only root makes groups")
    files = HeldFiles()
    for group in made:
        group.mkdir()
        names = ("memory.stat", "pids.current", "cgroup.events")
        usage = next(str(one) for one in group.iterdir() if one.name in names)
        assert files.read(usage)
        group.rmdir()
        assert files.read(usage) == ""
        assert not any(name.startswith(str(group)) for name in opened())
        group.mkdir()
        assert files.read(usage)
        files.keep(())
        group.rmdir()
