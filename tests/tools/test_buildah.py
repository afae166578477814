"""Contract tests with the real buildah."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from buildkit.digest import DiffId
from buildkit.errors import ToolError
from buildkit.store.leases import Leases
from buildkit.tools import buildah, process
from buildkit.tools.buildah import commit, open_stream, remove_image, run_in, working_container
from buildkit.tools.isolation import Isolation
from buildkit.tools.process import Command, run
from buildkit.tools.skopeo import copy_upper_layers, raw_manifest
from tests.tools.tinyimage import answer, import_tiny_image

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("layer")]

REF = f"localhost/buildkit-test/buildah:{os.getpid()}"


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiffId]:
    yield import_tiny_image(tmp_path_factory.mktemp("tiny"), REF)
    remove_image(REF)


@pytest.fixture
def port() -> Iterator[int]:
    """A server on the host's loopback that greets every client."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                connection.sendall(b"hello\n")
                connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def bash(script: str) -> tuple[str, ...]:
    return ("/usr/bin/bash", "-c", script)


def piped(script: str) -> tuple[str, ...]:
    """A script whose output and input are the pipes of a stream."""
    return bash(f"exec >{buildah.PIPES[0]} <{buildah.PIPES[1]}; {script}")


def containers() -> str:
    return run(Command(argv=("buildah", "containers", "--format", "{{.ContainerName}}"))).text


def test_command_runs_with_its_environment_and_container_is_removed(isolation: Isolation) -> None:
    with working_container(REF) as box:
        assert box.name in containers()
        assert run_in(box, bash('echo "$SAID"'), env={"SAID": "a b=c"}, network=False).text == "a b=c"
    assert box.name not in containers()


def test_container_is_removed_after_a_failure(isolation: Isolation) -> None:
    with pytest.raises(ToolError, match="exit code 3") as caught, working_container(REF) as box:
        run_in(box, bash("exit 3"), env={}, network=False)
    assert "exit status 3" in caught.value.output
    assert box.name not in containers()


def test_a_failure_has_the_end_of_what_its_command_said(isolation: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chroot isolation buildah ends with its command, and leaves behind what its relay has not moved by then."""

    def read_late(child: Popen[bytes], command: Command) -> tuple[bytes, bytes]:
        select.select([child.stderr], [], [])
        time.sleep(0.5)  # the pipe is full by then, as it may be on a busy machine
        return communicate(child, command)

    communicate = process._communicate
    monkeypatch.setattr(process, "_communicate", read_late)
    script = "set -e\nx=$(printf %0120000d 0)\nprintf '%s\\n' \"$x\" 'last words' >&2\n(exit 3)"
    with working_container(REF) as box:
        for _ in range(1 if isolation.kind == "oci" else 4):  # without the wait it is there now and then
            with pytest.raises(ToolError, match="exit code 3") as caught:
                run_in(box, bash(script), env={}, network=False)
            assert "000\nlast words\n" in caught.value.output


def test_a_script_that_fails_names_its_own_lines(isolation: Isolation) -> None:
    with pytest.raises(ToolError, match="exit code 127") as caught, working_container(REF) as box:
        run_in(box, bash("cat /dev/null\nno-such-program"), env={}, network=False)
    assert "line 2: no-such-program: command not found" in caught.value.output


def test_a_script_that_fails_where_there_is_no_sleep_keeps_its_exit_code(isolation: Isolation) -> None:
    with pytest.raises(ToolError, match="exit code 3") as caught, working_container(REF) as box:
        run_in(box, bash("set -e\nPATH=/nowhere\nexit 3"), env={}, network=False)
    assert "sleep" not in caught.value.output


def test_what_comes_by_a_stream_is_whole(isolation: Isolation, tmp_path: Path) -> None:
    """buildah's own relay leaves up to 64 KiB behind when it ends, more while nobody reads."""
    script = "x=0123456789abcdef; while [ ${#x} -lt 200000 ]; do x=$x$x; done; echo $x"
    with working_container(REF) as box, open_stream(box, piped(script), tmp_path) as (_, stdout):
        time.sleep(0.3)  # the command waits at a full pipe
        assert len(stdout.read()) == 262145


def test_failure_on_full_storage_mentions_the_disk(layer: DiffId, monkeypatch: pytest.MonkeyPatch) -> None:
    """buildah itself does not always."""
    monkeypatch.setattr(buildah, "is_disk_full", lambda _place: True)
    with pytest.raises(ToolError, match="exit code 3: the disk is full") as caught, working_container(REF) as box:
        run_in(box, bash("exit 3"), env={}, network=False)
    assert "free some room at /" in caught.value.hint


def test_container_is_leased_before_creation_and_until_removal(layer: DiffId, tmp_path: Path) -> None:
    leases = Leases(tmp_path / "boxes")
    with working_container(REF, leases.hold) as box:
        leases.sweep(buildah.remove_containers)
        assert box.name in containers()
        assert [path.name for path in leases.folder.iterdir()] == [box.name]
    assert list(leases.folder.iterdir()) == []
    with pytest.raises(ToolError), working_container(f"{REF}-missing", leases.hold):
        pass  # what never was need not be removed
    assert list(leases.folder.iterdir()) == []


def test_container_that_could_not_be_removed_stays_leased(
    layer: DiffId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases, real = Leases(tmp_path / "boxes"), os.environ["PATH"]
    with working_container(REF, leases.hold) as box:
        (tmp_path / "buildah").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "buildah").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{real}")
    monkeypatch.setenv("PATH", real)
    assert box.name in containers()
    leases.sweep(buildah.remove_containers)
    assert box.name not in containers()
    assert list(leases.folder.iterdir()) == []


def test_containers_are_removed_by_name_and_missing_ones_count_as_removed(layer: DiffId) -> None:
    names = [f"buildkit-test-{os.getpid()}-{n}" for n in (1, 2)]
    for name in names:
        run(Command(argv=("buildah", "from", "--pull=never", "--name", name, "--", REF)))
    assert buildah.remove_containers([*names, "never-was"]) == {*names, "never-was"}
    assert not any(name in containers() for name in names)


def test_missing_image_is_not_pulled() -> None:
    with pytest.raises(ToolError), working_container(f"{REF}-missing"):
        pass


def test_host_is_unreachable_unless_network_is_requested(isolation: Isolation, port: int) -> None:
    connect = f"(exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3) 2>&1; true"
    with working_container(REF) as box:
        assert answer(box, connect, network=True) == "hello"
        assert "Connection refused" in answer(box, connect)  # its own loopback is up, and nobody listens
        assert "Network is unreachable" in answer(box, "(exec 3<>/dev/tcp/192.0.2.1/80) 2>&1; true")


def test_mounts_are_read_only(isolation: Isolation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    mounts = ((tmp_path, "/media"),)
    with working_container(REF) as box:
        assert answer(box, "cat /media/file", mounts=mounts) == "from the host"
        with pytest.raises(ToolError):
            run_in(box, bash("echo no > /media/file"), env={}, network=False, mounts=mounts)
    assert (tmp_path / "file").read_text() == "from the host"


def test_commit_contains_only_changes_and_is_independent_of_time(
    isolation: Isolation, layer: DiffId, tmp_path: Path, refs: list[str]
) -> None:
    found = []
    for number in range(2):
        ref, folder = f"{REF}-{isolation.kind}-{number}", tmp_path / str(number)
        refs.append(ref)
        with working_container(REF) as box:
            script = "mkdir /opt/new && echo hello > /opt/new/file && touch /opt/new/empty"
            run_in(box, bash(script), env={}, network=False, mounts=((tmp_path, "/mnt"),))
            assert commit(box, ref, tmp_path) == ref
        ((diff_id, path),) = copy_upper_layers(ref, (layer,), folder)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == diff_id.hex
        assert (folder / "blobs/sha256" / layer.hex).stat().st_size == 0
        with tarfile.open(path) as tar:
            assert {info.mtime for info in tar} == {0}
            assert {info.name for info in tar if info.isreg()} == {"opt/new/file", "opt/new/empty"}
        found.append(diff_id)
        remove_image(ref)
        assert raw_manifest(ref) is None
    assert found[0] == found[1]


def test_a_step_that_changes_nothing_still_makes_a_layer(layer: DiffId, tmp_path: Path, refs: list[str]) -> None:
    ref = f"{REF}-same"
    refs.append(ref)
    with working_container(REF) as box:
        commit(box, ref, tmp_path)
    ((diff_id, path),) = copy_upper_layers(ref, (layer,), tmp_path)
    assert diff_id != layer
    with tarfile.open(path) as tar:
        assert not tar.getnames()


def test_stream_transfers_megabytes_in_both_directions(isolation: Isolation, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    with working_container(REF) as box, open_stream(box, piped("exec cat"), tmp_path) as (stdin, stdout):
        writer = threading.Thread(target=lambda: ([stdin.write(data) for _ in range(16)], stdin.close()))
        writer.start()
        assert all(stdout.read(len(data)) == data for _ in range(16))
        writer.join()
        assert stdout.read() == b""


def test_a_stream_whose_reader_pauses_is_not_slowed_down(isolation: Isolation, tmp_path: Path) -> None:
    # 400 pauses of a millisecond with more waiting than a pipe holds; buildah's own relay takes 0.1 s for each
    script = "for i in {1..400}; do read -r -N 65000 data; sleep 0.001; done; echo done"
    with working_container(REF) as box, open_stream(box, piped(script), tmp_path) as (stdin, stdout):
        began = time.monotonic()
        stdin.write(b"x" * 26_000_000)
        stdin.close()
        assert stdout.readline() == b"done\n"
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("script", ["exit 3", "exit 0"])
def test_a_stream_whose_command_never_opens_it_fails(isolation: Isolation, tmp_path: Path, script: str) -> None:
    message = "exit code 3" if script == "exit 3" else "ended before it opened its pipes"
    with (
        pytest.raises(ToolError, match=message),
        working_container(REF) as box,
        open_stream(box, bash(script), tmp_path),
    ):
        pytest.fail("it never began")


def test_a_stream_answers_line_by_line_and_has_no_network(isolation: Isolation, port: int, tmp_path: Path) -> None:
    script = f"while read -r line; do echo got $line; done; exec 3<>/dev/tcp/127.0.0.1/{port} || exit 7"
    answers = []
    with (  # noqa: PT012 - that it fails on leaving, not before, is the point
        pytest.raises(ToolError, match="exit code 7"),
        working_container(REF) as box,
        open_stream(box, piped(script), tmp_path) as (stdin, stdout),
    ):
        for word in (b"one", b"two"):
            stdin.write(word + b"\n")
            stdin.flush()
            answers.append(stdout.readline())
    assert answers == [b"got one\n", b"got two\n"]


def test_stream_ends_if_its_block_raises(isolation: Isolation, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError),
        working_container(REF) as box,
        open_stream(box, piped("exec sleep 3600"), tmp_path),
    ):
        raise KeyError
    assert box.name not in containers()


def test_isolation_comes_from_environment_or_from_a_working_runtime(
    monkeypatch: pytest.MonkeyPatch, layer: DiffId
) -> None:
    buildah.find_isolation.cache_clear()
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    assert buildah.find_isolation().kind == "chroot"
    buildah.find_isolation.cache_clear()
    monkeypatch.delenv("BUILDAH_ISOLATION")
    found = buildah.find_isolation().kind
    assert found in ("oci", "chroot")
    with working_container(REF) as box:
        assert answer(box, "echo works") == "works"
    buildah.find_isolation.cache_clear()


def test_a_runtime_that_does_not_work_is_not_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.write_text("#!/bin/sh\necho 'cgroups in hybrid mode not supported' >&2\nexit 1\n")
    runtime.chmod(0o755)
    monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)
    monkeypatch.setenv("BUILDAH_RUNTIME", str(runtime))
    buildah.find_isolation.cache_clear()
    assert buildah.find_isolation().kind == "chroot"
    buildah.find_isolation.cache_clear()
