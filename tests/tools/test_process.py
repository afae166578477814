"""Child processes: accepted exit codes, messages of failures, and stopping."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.errors import MissingTool, ToolError
from buildkit.tools import process
from buildkit.tools.disk_full import is_disk_full
from buildkit.tools.process import Command, find_tool, require_tool, run, start
from tests.waiting import wait_until

pytestmark = pytest.mark.tools


def shell(script: str, **more: object) -> Command:
    return Command(argv=("bash", "-c", script), **more)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie of somebody else's counts as ended)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_run_returns_output_and_exit_code() -> None:
    done = run(shell("echo ' out '; echo err >&2; exit 3", accept=(0, 3)))
    assert (done.code, done.text, done.stdout, done.stderr) == (3, "out", b" out \n", b"err\n")


def test_run_passes_input_environment_and_folder(tmp_path: Path) -> None:
    command = shell('cat; echo "$A $HOME"; pwd', stdin=b"in\n", env={"A": "1"}, cwd=tmp_path)
    assert run(command).text.splitlines() == ["in", f"1 {os.environ['HOME']}", str(tmp_path)]


def test_program_without_input_does_not_read_standard_input() -> None:
    assert run(Command(argv=("cat",))).stdout == b""


def test_failure_names_program_and_code_and_keeps_the_output() -> None:
    with pytest.raises(
        ToolError, match=r"^`bash -c 'echo out; echo why >&2; exit 4'` failed with exit code 4$"
    ) as caught:
        run(shell("echo out; echo why >&2; exit 4"))
    assert caught.value.output == "out\nwhy"
    with pytest.raises(ToolError, match=r"^the step failed with exit code 1$"):
        run(shell("false", what="the step"))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_killed_child_is_reported_with_the_signal_name(name: str) -> None:
    with pytest.raises(ToolError, match=rf"^x was killed by {name}$"):
        run(shell(f"ulimit -c 0; kill -{name[3:]} $$", what="x"))


def test_a_real_time_signal_has_a_number() -> None:
    with pytest.raises(ToolError, match=r"^x was killed by signal 40$"):
        run(shell("kill -40 $$", what="x"))


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk quota is used up")]
)
def test_program_output_about_a_full_disk_is_recognised(number: int, words: str) -> None:
    script = f"echo writing it: {os.strerror(number)} >&2; exit 3"
    with pytest.raises(ToolError) as caught:
        run(Command(argv=("sh", "-c", script), what="making it"))
    assert caught.value.message == f"making it failed with exit code 3: {words}"
    assert "free some room" in caught.value.hint


def test_silent_failure_on_a_full_disk_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "is_disk_full", lambda place: place == "/full")
    for places, words in ((("/a",), "code 3$"), (("/a", "/full"), "code 3: the disk is full$")):
        with pytest.raises(ToolError, match=words) as caught:
            run(Command(argv=("sh", "-c", "exit 3"), writes=places))
    assert "free some room at /full" in caught.value.hint


@pytest.mark.parametrize(
    ("room", "full"), [((9, 9, 9, 9), False), ((9, 0, 9, 9), True), ((9, 9, 9, 0), True), ((0, 0, 0, 0), False)]
)
def test_disk_without_free_blocks_or_inodes_is_full(
    monkeypatch: pytest.MonkeyPatch, room: tuple[int, ...], full: bool
) -> None:
    names = ("f_blocks", "f_bavail", "f_files", "f_favail")
    found = SimpleNamespace(f_frsize=1 << 20, **dict(zip(names, room, strict=True)))
    monkeypatch.setattr(os, "statvfs", lambda _place: found)
    assert is_disk_full("/x") is full


def test_unreadable_disk_is_not_reported_as_full(tmp_path: Path) -> None:
    assert not is_disk_full(tmp_path / "no")
    assert not is_disk_full(tmp_path)


def test_only_the_end_of_a_long_output_is_kept() -> None:
    with pytest.raises(ToolError) as caught:
        run(shell("echo first; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last; exit 1"))
    assert caught.value.output.endswith("x\nlast")
    assert "first" not in caught.value.output
    assert len(caught.value.output) <= 64 * 1024


def test_undecodable_output_does_not_break_the_message() -> None:
    with pytest.raises(ToolError) as caught:
        run(shell("printf '\\377ok' >&2; exit 1"))
    assert caught.value.output == "�ok"


def test_missing_tool_is_reported_with_its_install_command() -> None:
    assert find_tool("no-such-program") is None
    with pytest.raises(MissingTool, match="newuidmap-x is not installed") as caught:
        require_tool("newuidmap-x")
    sudo = "sudo " if os.geteuid() else ""
    assert caught.value.hint == f"run: {sudo}apt-get install newuidmap-x"
    with pytest.raises(MissingTool):
        run(Command(argv=("no-such-program",)))


def test_missing_tool_names_the_package_that_contains_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool) as caught:
        require_tool("newuidmap")
    assert caught.value.hint.endswith("apt-get install uidmap")


@pytest.mark.parametrize("is_there", [True, False])
def test_program_whose_interpreter_cannot_be_run_says_which(tmp_path: Path, is_there: bool) -> None:
    interpreter, script = tmp_path / "python", tmp_path / "compose"
    if is_there:
        interpreter.write_text("")  # nobody may execute it, root neither
    script.write_text(f"#!{interpreter} -P\n")
    script.chmod(0o755)
    with pytest.raises(MissingTool, match=f"{script} cannot be started: ") as caught:
        run(Command(argv=(str(script),)))
    assert f"it needs {interpreter}, which this user cannot run" in caught.value.hint


def test_missing_folder_is_no_fault_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        run(Command(argv=("true",), cwd=tmp_path / "none"))


def test_failed_block_ends_the_child_and_its_process_group() -> None:
    pids: list[int] = []

    def work() -> None:
        with start(shell("sleep 600 & echo $!; wait", grace=60)) as child:
            assert child.stdout is not None
            pids.extend((child.pid, int(child.stdout.readline())))
            raise RuntimeError

    began = time.monotonic()
    with pytest.raises(RuntimeError):
        work()
    assert time.monotonic() - began < 59, "it was asked to end, and did"
    wait_until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.parametrize(("grace", "needed"), [(0.2, 60.0), (60.0, 0.2)])
def test_child_has_its_grace_period_to_end(tmp_path: Path, grace: float, needed: float) -> None:
    script = f"trap 'sleep {needed}; touch {tmp_path}/done; exit' TERM; echo ready; while :; do sleep 0.05; done"
    with start(shell(script, grace=grace)) as child:
        assert child.stdout is not None
        child.stdout.readline()
    assert (tmp_path / "done").exists() is (grace > needed)


def test_child_has_its_own_session_so_that_ctrl_c_does_not_reach_it() -> None:
    with start(shell("sleep 60")) as child:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


STOP = """
import os, sys, threading, time
from pathlib import Path
from buildkit.errors import Interrupted
from buildkit.tools.process import Command, run, start, stop_all

def shell(script, **more):
    return Command(argv=("bash", "-c", script), **more)

stopped = "; until [ -e stopped ]; do sleep 0.05; done; "

def later():
    while not all(Path(name).exists() for name in ("undo", "whole", "other")):
        time.sleep(0.01)
    stop_all()
    Path("stopped").touch()

ended = []
def undo():
    run(shell(f"touch undo{stopped}echo undone", is_cleanup=True))
    ended.append("undo")

def finish():
    run(shell(f"touch whole{stopped}echo whole", is_whole=True))
    ended.append("whole")
    try:
        run(shell("true", is_whole=True))
    except Interrupted:
        ended.append("but no other")

threads = [threading.Thread(target=action) for action in (undo, finish)]
for thread in threads:
    thread.start()
threading.Thread(target=later).start()
began = time.monotonic()
try:
    run(shell("touch other; sleep 60"))
except Interrupted:
    ended.append("interrupted")
assert time.monotonic() - began < 30
try:
    run(shell("true"))
except Interrupted:
    ended.append("nothing starts")
print(run(shell("echo removed", is_cleanup=True)).text)
for thread in threads:
    thread.join()
print(*sorted(ended), sep=", ")
"""


def test_stop_ends_running_children_refuses_new_ones_and_allows_cleanup(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STOP], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["removed", "but no other, interrupted, nothing starts, undo, whole"]


def test_ctrl_c_waits_for_a_whole_command(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(shell("kill -INT $PPID; sleep 0.3; touch whole", is_whole=True, cwd=tmp_path))
    assert (tmp_path / "whole").exists()


def test_many_programs_run_concurrently() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(run(shell(f"echo {n}")).text)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [str(number) for number in range(8)]


def test_stalled_program_is_ended() -> None:
    with pytest.raises(ToolError, match=r"^waiting was ended: nothing came or went for 1 s$") as caught:
        run(Command(argv=("sleep", "300"), what="waiting", stall_seconds=1))
    assert caught.value.output == "nothing came or went for 1 s"


def test_program_that_moves_bytes_is_not_ended() -> None:
    done = run(shell("for n in 1 2 3 4 5 6 7 8; do sleep 0.5; echo $n; done; cat", stdin=b"in", stall_seconds=3))
    assert done.text == "1\n2\n3\n4\n5\n6\n7\n8\nin"
