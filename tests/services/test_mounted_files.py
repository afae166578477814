"""Files of the host for what watches: whole or not there, kept until the new ones run, and a project laid out once."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.events import ignore_event
from buildkit.running.environment import RunningEnvironment
from buildkit.running.mounts import BindMount, held_files
from buildkit.services import host_reader
from buildkit.services.host_reader import ensure_reader, find_readers, stop_reader
from buildkit.services.mounted_files import ensure_mounted_files, remove_old_files
from buildkit.services.stack_project import ensure_stack_project
from tests.observe.test_stack import stack


def holding(folder: Path, text: str) -> tuple[RunningEnvironment, Path]:
    """The stack, whose Alertmanager reads one file."""
    environment = stack()
    mount = held_files(str(folder), "alertmanager", "/etc/xoe", (("a.yml", text),))
    service = environment.get("alertmanager")
    own = replace(service, container=replace(service.container, mounts=(mount,)))
    return replace(environment, services=(own,)), Path(mount.source)


def test_files_are_whole_and_earlier_ones_stay_until_the_new_ones_run(tmp_path: Path) -> None:
    before, old = holding(tmp_path, "one")
    ensure_mounted_files(before)
    after, new = holding(tmp_path, "two")
    ensure_mounted_files(after)
    assert ((old / "a.yml").read_text(), (new / "a.yml").read_text()) == ("one", "two")
    assert new.stat().st_mode & 0o777 == 0o755
    assert (new / "a.yml").stat().st_mode & 0o777 == 0o644
    (new / "a.yml").write_text("")  # as a crash leaves it
    ensure_mounted_files(after)
    assert (new / "a.yml").read_text() == "two"
    remove_old_files(after)
    assert [path.name for path in tmp_path.iterdir()] == [new.name]


def test_the_project_is_laid_out_once_and_replaces_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "key"))
    (tmp_path / "observe/project-of-before/code/buildkit").mkdir(parents=True)
    (tmp_path / "observe/project-of-before/code/buildkit/__init__.py").touch()
    os.utime(tmp_path / "observe/project-of-before", (0, 0))
    folder = ensure_stack_project()
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert ensure_stack_project() == folder
    assert made == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert list((tmp_path / "observe").iterdir()) == [folder]
    assert (folder / "code/buildkit/monitor/exporter.py").is_file()
    assert (folder / "stages/prometheus/stage.toml").is_file()
    assert not list(folder.rglob("*.pyc"))


def test_a_reader_that_ends_at_once_is_an_error_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (sys.executable, "-c", "import sys; sys.exit('no such cgroup')")
    monkeypatch.setattr(host_reader, "reader_argv", lambda *_: program)
    with pytest.raises(BuildError, match="does not read this host") as caught:
        ensure_reader(tmp_path / "feed", tmp_path, None, "1", ignore_event)
    assert "no such cgroup" in caught.value.output
    assert find_readers(tmp_path / "feed") == ()
    assert (tmp_path / "monitor.log").stat().st_mode & 0o777 == 0o600


def test_a_reader_of_another_version_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = tmp_path / "feed"
    code = f"import pathlib, time; pathlib.Path({str(feed / 'state.json')!r}).touch(); time.sleep(600)"
    monkeypatch.setattr(host_reader, "reader_argv", lambda *_: (sys.executable, "-c", code))
    found = []
    try:
        for version in ("1", "1", "2"):
            ensure_reader(feed, tmp_path, None, version, ignore_event)
            found.append(find_readers(feed))
    finally:
        stop_reader(feed)
    assert found[0] == found[1]
    assert [len(one) for one in found] == [1, 1, 1]
    assert found[2] != found[1]
    assert find_readers(feed) == ()


def test_mounts_without_files_are_left_alone(tmp_path: Path) -> None:
    environment, _ = holding(tmp_path, "x")
    [service] = environment.services
    plain = BindMount(source=str(tmp_path / "feed"), target="/feed")
    bare = replace(service, container=replace(service.container, mounts=(plain,)))
    ensure_mounted_files(replace(environment, services=(bare,)))
    assert list(tmp_path.iterdir()) == []
