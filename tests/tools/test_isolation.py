"""What a command in a container sees of the host and of other commands, in each kind of isolation."""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.errors import ToolError
from buildkit.tools import buildah
from buildkit.tools.buildah import remove_image, working_container
from buildkit.tools.isolation import Isolation
from buildkit.tools.process import find_tool
from tests.tools.tinyimage import answer, import_tiny_image

pytestmark = pytest.mark.tools

REF = f"localhost/buildkit-test/isolation:{os.getpid()}"
MEMORY = Path("/dev/shm")
MARK = "f6yJ2nQ9-of-the-caller"
HOST_DEVICES = {"kmsg", "kvm", "loop-control", "mem", "vsock"}


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import_tiny_image(tmp_path_factory.mktemp("tiny"), REF)
    yield
    remove_image(REF)


@pytest.fixture
def folder_in_memory() -> Iterator[Path]:
    folder = MEMORY / f"buildkit-test-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    (folder / "file").write_text("kept")
    yield folder
    (folder / "file").unlink()
    folder.rmdir()


def say(script: str, mounts: buildah.Mounts = (), *, network: bool = False) -> str:
    with working_container(REF) as box:
        return answer(box, script, network=network, mounts=mounts)


@pytest.mark.parametrize("network", [False, True])
def test_command_sees_only_its_own_processes_and_no_environment_of_the_caller(
    isolation: Isolation, monkeypatch: pytest.MonkeyPatch, network: bool
) -> None:
    monkeypatch.setenv("MARK", MARK)
    said = say("for at in /proc/[0-9]*; do cat $at/environ; done; echo; echo /proc/[0-9]*", network=network)
    assert MARK not in said
    assert isolation.is_private
    assert 1 <= len(said.split("\n")[-1].split()) < 10


def test_command_has_devices_and_shared_memory_of_its_own(isolation: Isolation, folder_in_memory: Path) -> None:
    script = """echo /dev/*; echo /dev/shm/* /tmp/*; echo it >/dev/shm/own; cat /dev/shm/own; echo lost >/dev/null
    read -r -N 1 byte </dev/urandom; test -c /dev/pts/ptmx && cat <(echo pipe)"""
    devices, shared, own, pipe = say(script).split("\n")
    assert not HOST_DEVICES & {Path(path).name for path in devices.split()}
    assert shared == "/dev/shm/* /tmp/*"
    assert (own, pipe) == ("it", "pipe")
    assert list(MEMORY.glob("own")) == []


def test_commands_share_no_memory_segment_with_the_host(isolation: Isolation) -> None:
    libc = ctypes.CDLL(None)
    key = secrets.randbelow(1 << 30) + 1
    segment = libc.shmget(key, 4096, 0o1666)  # shmget(2), IPC_CREAT
    assert segment >= 0
    try:
        assert str(key) in Path("/proc/sysvipc/shm").read_text().split()  # no space comes before ten digits
        assert str(key) not in say("cat /proc/sysvipc/shm")
    finally:
        libc.shmctl(segment, 0, None)  # IPC_RMID


def test_commands_at_the_same_time_share_nothing(isolation: Isolation, folder_in_memory: Path) -> None:
    """What one gets by a mount from the host's shared memory, another does not see."""
    mounts = ((folder_in_memory, "/media"),)
    spy = "echo looked; cat /dev/shm/*/* /proc/*/root/media/* 2>&1; true"
    with working_container(REF) as box, working_container(REF) as other:
        script = "cat /media/file; for file in /media/file /dev/shm/*/file; do { echo x >$file; } 2>&1; done; true"
        assert answer(box, script, mounts=mounts).startswith("kept")
        looked = answer(other, spy)
        assert looked.startswith("looked")
        assert "kept" not in looked
    assert (folder_in_memory / "file").read_text() == "kept"


def test_command_cannot_leave_its_root(isolation: Isolation) -> None:
    """chroot(2) within a chroot leads out of it; where a runtime has moved the root, it leads nowhere."""
    program = find_tool("chroot")
    assert program is not None
    mounts = ((Path(program).parent, "/media"),)
    if isolation.kind == "chroot":
        with pytest.raises(ToolError) as caught:
            say("/media/chroot / /usr/bin/cat /dev/null", mounts)
        assert "Operation not permitted" in caught.value.output
    else:
        assert say("/media/chroot / /usr/bin/cat /dev/null && echo done", mounts) == "done"


def test_isolation_without_permission_for_namespaces_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse_namespaces(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    buildah.find_isolation.cache_clear()
    found = buildah.find_isolation()
    assert not found.is_private
    assert "unshare failed: Operation not permitted" in found.shared
    assert "NOT private" in str(found)
    assert say("echo works") == "works"
    buildah.find_isolation.cache_clear()


def test_a_probe_whose_reason_was_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """buildah's relay loses it now and then; then commands ran in the host's namespaces."""
    monkeypatch.setenv("PATH", f"{lose_reasons(tmp_path, times=3)}:{os.environ['PATH']}")
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    buildah.find_isolation.cache_clear()
    assert buildah.find_isolation().is_private
    assert (tmp_path / "lost").read_text().split() == ["lost"] * 3
    buildah.find_isolation.cache_clear()


def lose_reasons(folder: Path, times: int) -> Path:
    """Write a buildah(1) whose first runs end without their reason, as those of a loaded machine do."""
    script = f"""#!/bin/sh
if [ "$1" = run ] && [ "$(cat {folder}/lost 2>/dev/null | wc -l)" -lt {times} ]; then
    echo lost >>{folder}/lost
    {find_tool("buildah")} "$@" 2>/dev/null
    code=$?
    printf 'subprocess exited with status %s\nError: exit status %s\n' $code $code >&2
    exit $code
fi
exec {find_tool("buildah")} "$@"
"""
    (folder / "buildah").write_text(script)
    (folder / "buildah").chmod(0o755)
    return folder


def refuse_namespaces(folder: Path) -> None:
    """Write an unshare(1) that may make network namespaces only."""
    real = find_tool("unshare")
    script = f"""#!/bin/sh
case "$*" in *--pid*) echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1;; esac
exec {real} "$@"
"""
    (folder / "unshare").write_text(script)
    (folder / "unshare").chmod(0o755)
