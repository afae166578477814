"""Locking a whole checkout: all or nothing, only changed files, and a check that writes nothing."""

import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from buildkit.declare.target import Target
from buildkit.digest import Digest
from buildkit.errors import BuildError, DefinitionError, FetchError, Interrupted, Problem
from buildkit.events import ignore_event
from buildkit.locks.apt_lists import AptList
from buildkit.locks.images_lock import IMAGES_LOCK, ImageContents, LockedImage, render_images_lock
from buildkit.locks.pins import AptPin
from buildkit.resolve.all_locks import check_locks, lock_all, run_jobs
from buildkit.resolve.apt import lock_apt
from buildkit.resolve.changes import describe_changes
from buildkit.resolve.request import LockDrafts, LockRequest, RootImage
from tests.installersettings import clear_installer_settings

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")


@pytest.fixture(autouse=True)
def _no_settings_of_this_host(monkeypatch):
    clear_installer_settings(monkeypatch)
    monkeypatch.setenv("UV_NO_CONFIG", "1")


def test_drafts_write_only_changed_files_and_leave_no_temporary_files(tmp_path):
    (tmp_path / "a").write_text("same")
    before = (tmp_path / "a").stat().st_mtime_ns
    drafts = LockDrafts(tmp_path)
    drafts.decide("a", "same")
    drafts.decide("sub/b", "new")
    assert drafts.read("sub/b") == "new"
    assert drafts.changed() == ("sub/b",)
    drafts.write()
    assert (tmp_path / "a").stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "b"]


def test_drafts_that_cannot_all_be_written_write_none(tmp_path):
    (tmp_path / "b").write_text("a file where a folder should be")
    drafts = LockDrafts(tmp_path)
    drafts.decide("a", "new")
    drafts.decide("b/c", "new")
    with pytest.raises(BuildError, match="cannot write the locks"):
        drafts.write()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_failed_job_does_not_stop_others_and_definition_errors_are_reported_together():
    ran = []

    def fails(error):
        raise error

    def wrong(file):
        return lambda: fails(DefinitionError.of([Problem(file=file, what="is wrong")]))

    with pytest.raises(DefinitionError) as caught:
        run_jobs([wrong("one"), lambda: ran.append(1), wrong("two")], threading.Event())
    assert [problem.file for problem in caught.value.problems] == ["one", "two"]
    assert ran == [1]
    with pytest.raises(FetchError, match="x"):
        run_jobs([lambda: fails(FetchError("x")), wrong("one")], threading.Event())


def test_check_reports_every_stale_lock_and_writes_nothing(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/api.in").write_text("idna\n")
    (tmp_path / "requirements/base.apt").write_text("python3\n")
    (tmp_path / "requirements/models.toml").write_text("")
    request = LockRequest(
        root=tmp_path,
        target=TARGET,
        groups=(("requirements/api.in",),),
        apt=(AptList(file="requirements/base.apt", suite="trixie", variant="minbase"),),
        models=("requirements/models.toml",),
    )
    changes = check_locks(request)
    assert [change.file for change in changes] == [
        "requirements/api.txt", "requirements/base.apt.lock", "requirements/models.lock",
    ]  # fmt: skip
    assert len(list((tmp_path / "requirements").iterdir())) == 3


@pytest.mark.parametrize("sees_system", [False, True])
def test_check_calls_altered_contents_of_an_image_stale_and_what_stands_on_them(tmp_path, sees_system):
    name, digest = "registry.test/x:1", Digest("a" * 64)
    inside = ImageContents(id="debian", codename="trixie", packages={"apt": "3"})
    platforms = {"linux/amd64": digest}
    image = LockedImage(name=name, digest=digest, locked="now", platforms=platforms, contents={"amd64": inside})
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/api.in").write_text("idna\n")
    (tmp_path / "requirements/x.apt").write_text("jq\n")
    request = LockRequest(
        root=tmp_path,
        target=replace(TARGET, sees_system=sees_system),
        groups=(("requirements/api.in",),),
        lock_images={"requirements/api.in": (name,)},
        apt=(AptList(file="requirements/x.apt", image=name),),
        root_images=(RootImage(name=name, file="stages/a/stage.toml"),),
    )
    drafts, lock = LockDrafts(tmp_path), tmp_path / IMAGES_LOCK
    lock.write_text(render_images_lock({name: image}))
    lock_apt(request, drafts, lambda _asked, _image: (AptPin(name="jq", version="1"),), ignore_event, upgrade=False)
    drafts.write()

    def check():
        return {change.file for change in check_locks(request)}

    assert check() == {"requirements/api.txt"}
    lock.write_text(lock.read_text().replace("trixie", "bookworm"))
    assert {IMAGES_LOCK, "requirements/x.apt.lock"} <= check()


def test_a_failure_leaves_every_lock_as_it_was(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/models.toml").write_text('[[model]]\nname = "own"\nsource = "path:requirements"\n')
    (tmp_path / "requirements/base.apt").write_text("NOT A PACKAGE\n")
    request = LockRequest(
        root=tmp_path,
        target=TARGET,
        apt=(AptList(file="requirements/base.apt", suite="trixie", variant="minbase"),),
        models=("requirements/models.toml",),
    )
    with pytest.raises(DefinitionError):
        lock_all(request, ignore_event)
    assert sorted(path.name for path in (tmp_path / "requirements").iterdir()) == ["base.apt", "models.toml"]


def test_interrupt_leaves_every_lock_as_it_was(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/models.toml").write_text(
        '[[model]]\nname = "m"\nsource = "https://127.0.0.1:9/x"\n[[model]]\nname = "o"\nsource = "path:requirements"\n'
    )
    stop = threading.Event()
    stop.set()
    request = LockRequest(root=tmp_path, target=TARGET, models=("requirements/models.toml",))
    with pytest.raises(Interrupted):
        lock_all(request, ignore_event, stop=stop)
    assert [path.name for path in (tmp_path / "requirements").iterdir()] == ["models.toml"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_children_and_downloads(number, tmp_path):
    """In a process of its own: afterwards it starts no children any more."""
    script = """
import os, signal, sys, threading
from pathlib import Path
from buildkit.tools.interrupts import interruptible
from buildkit.errors import Interrupted
from buildkit.resolve.all_locks import run_jobs
from buildkit.tools.process import Command, run
stop = threading.Event()

def interrupt_when_both_run():
    while not Path("begun").exists():
        stop.wait(0.01)
    os.kill(os.getpid(), int(sys.argv[1]))
    stop.wait(3600)

try:
    with interruptible():
        child = Command(argv=("sh", "-c", "touch begun; exec sleep 3600"))
        run_jobs([lambda: run(child), interrupt_when_both_run], stop)
except Interrupted:
    print("interrupted")
"""
    argv = (sys.executable, "-c", script, str(int(number)))
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout == "interrupted\n", done.stderr


def test_changes_are_described_by_pin():
    old = "# x\na==1 \\\n    --hash=sha256:0\nb==1\nlibc6==2\n"
    assert describe_changes(old, "a==2 \\\n    --hash=sha256:1\nlibc6==2\nnew==3 ; x\n") == (
        "a 1 → 2",
        "- b",
        "+ new 3",
    )
    assert describe_changes("libc6=2.41-12\n", "libc6=2.41-13\n") == ("libc6 2.41-12 → 2.41-13",)
    toml = '[[artifact]]\nname = "a"\nversion = "1"\n'
    assert describe_changes(toml, toml.replace('"1"', '"2"')) == ("a 1 → 2",)
    unnamed = toml.replace('"1"', '""')  # as a model of a folder
    assert describe_changes(toml, unnamed) == ("a 1 → no version",)
    assert describe_changes(unnamed, toml) == ("a no version → 1",)
    assert describe_changes(toml.replace('"a"', '"b"'), unnamed) == ("+ a", "- b")
    assert describe_changes(None, "a==1") == ("new",)
    assert describe_changes("a==1 # x", "a==1") == ("the same versions",)


@pytest.mark.network
@pytest.mark.tools
def test_all_kinds_of_locks_are_made_with_the_real_tools(tmp_path):
    package = tmp_path / "libs/textkit"
    (package / "textkit").mkdir(parents=True)
    (package / "textkit/__init__.py").write_text("")
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "textkit"\nversion = "1.2"\ndependencies = ["idna>=3"]\n'
    )
    folder = tmp_path / "requirements"
    folder.mkdir()
    (folder / "api.in").write_text("./libs/textkit\nhttpx\ncolorama ; sys_platform == 'win32'\n")
    (folder / "ml.in").write_text("idna<3.8\nnumpy\nantlr4-python3-runtime==4.9.3  # has only an sdist\n")
    (folder / "base.apt").write_text("netbase\n")
    (folder / "models.toml").write_text(
        '[[model]]\nname = "vad"\nsource = "pypi:silero-vad"\nversion = "6.2.3"\n'
        'files = ["silero_vad/data/silero_vad.onnx"]\n'
    )
    request = LockRequest(
        root=tmp_path,
        target=TARGET,
        groups=(("requirements/api.in", "requirements/ml.in"),),
        apt=(AptList(file="requirements/base.apt", suite="trixie", variant="extract"),),
        models=("requirements/models.toml",),
        host_builds=True,
    )
    changes = lock_all(request, ignore_event)
    assert [change.file.removeprefix("requirements/") for change in changes] == [
        "api.txt", "api.wheels.toml", "base.apt.lock", "ml.txt", "ml.wheels.toml", "models.lock",
    ]  # fmt: skip
    assert "\nidna==3.7 " in (folder / "api.txt").read_text()
    wheels = (folder / "ml.wheels.toml").read_text()
    assert "antlr4-python3-runtime-4.9.3.tar.gz" in wheels
    assert "cp313-cp313-manylinux" in wheels
    assert "colorama" not in (folder / "api.wheels.toml").read_text()
    assert 'path = "./libs/textkit"' in (folder / "api.wheels.toml").read_text()
    for path in folder.glob("*.txt"):
        assert "://" not in path.read_text()
        assert str(tmp_path) not in path.read_text()
    assert check_locks(request) == ()
    assert lock_all(request, ignore_event) == ()
