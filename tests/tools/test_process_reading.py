"""Reading processes that end, change, hide or are many, below a folder in the place of /proc; real ones are in e2e."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.tools import process_reading
from buildkit.tools.process_reader import parse_sighting
from buildkit.tools.process_reading import NAMESPACES, TABLES, ProcessReading
from tests.audit import observed

ONE, OTHER = "1" * 64, "2" * 64
MOUNTINFO = "1 0 0:1 / / ro - overlay overlay ro\n2 1 0:2 / /data rw - ext4 /dev/x rw\n"
WHOLE_HOST = "/"  # as the lowest layer, it has every file that the host has


class FakeProc:
    """A folder with processes; ``program`` is what they run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "proc"
        self.upper = folder / "upper"
        self.upper.mkdir()
        self.program = folder / "program"
        self.program.write_text("a program")
        self.add(os.getpid(), "", space="host")

    def add(
        self, pid: int, container: str, *, space: str = "", state: str = "S", name: str = "x", maps: str = ""
    ) -> Path:
        """Add a process in a container's group, or in its namespaces."""
        place = self.folder / str(pid)
        for below in ("ns", "net", "task"):
            (place / below).mkdir(parents=True)
        for kind in NAMESPACES:
            (place / "ns" / kind).symlink_to(f"{kind}:[{space or container}]")
        for table in TABLES:
            (place / "net" / table).write_text("")
        self.set_stat(place, name, state, 100)
        group = f"/machine.slice/libpod-{container}.scope" if container else "/"
        files = {"cgroup": f"1:name=systemd:{group}\n0::/\n", "status": observed.STATUS, "maps": maps}
        for file, text in {**files, "environ": "A=1\0", "mountinfo": MOUNTINFO, "cmdline": "x\0"}.items():
            (place / file).write_text(text)
        (place / "cwd").symlink_to("/")
        (place / "exe").symlink_to(self.program)
        return place

    @staticmethod
    def set_stat(place: Path, name: str, state: str, started: int) -> None:
        zeros = " 0" * 18
        (place / "stat").write_text(f"{place.name} ({name}) {state}{zeros} {started}{zeros}\n")

    def read(
        self, *wanted: tuple[str, int], seconds: float = 60, runtimes: tuple[str, ...] = ()
    ) -> Iterator[dict[str, Any]]:
        reading = ProcessReading(runtimes, end=time.monotonic() + seconds, proc=self.folder)
        layers = [str(self.upper), WHOLE_HOST]
        return reading.read([{"id": ident, "pid": pid, "layers": layers} for ident, pid in wanted])


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def pids(answer: dict[str, Any]) -> set[int]:
    return {process["pid"] for process in answer["processes"]}


def test_processes_are_found_by_group_or_by_namespace_and_their_code_is_the_images(proc: FakeProc) -> None:
    proc.add(7, ONE)
    proc.add(8, "", space=ONE)
    proc.add(9, OTHER)
    proc.add(10, "", space="elsewhere")
    (proc.add(11, "") / "cgroup").write_text(f"0::/machine.slice/libpod-conmon-{ONE}.scope\n")
    nested = f"0::/machine.slice/libpod-{ONE}.scope/libpod-{'4' * 64}.scope/libpod-conmon-{ONE}\n"
    (proc.add(12, "", space="nested") / "cgroup").write_text(nested)
    (answer,) = proc.read((ONE, 7))
    assert (answer["gone"], answer["unread"], pids(answer)) == (False, [], {7, 8, 12})
    assert [(one["how"], one["place"], one["pids"]) for one in answer["code"]] == [("program", "image", [7, 8, 12])]
    assert len(answer["net"]) == 2, "each network is read once"
    seen = parse_sighting(answer)
    assert seen.environment == ("A=1",)
    assert {process.name for process in seen.processes} == {"python"}


def test_program_that_was_written_or_is_mounted_is_told_from_the_images(proc: FakeProc) -> None:
    proc.add(7, ONE, maps="1-2 r-xp 0 0:1 1 /data/x.so\n2-3 r-xp 0 0:1 1 /memfd:y (deleted)\n")
    inside = proc.upper / str(proc.program).lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.touch()
    (answer,) = proc.read((ONE, 7))
    found = {one["path"]: (one["how"], one["place"], one["writable"]) for one in answer["code"]}
    assert found == {
        str(proc.program): ("program", "written", False),
        "/data/x.so": ("library", "mount", True),
        "/memfd:y": ("library", "memory", False),
    }


def test_process_whose_number_another_got_meanwhile_is_not_read(proc: FakeProc) -> None:
    proc.add(7, ONE)
    proc.add(8, OTHER)
    reused, ended = proc.add(9, OTHER), proc.add(10, OTHER)
    answers = proc.read((ONE, 7), (OTHER, 8))
    next(answers)  # all members are found by now
    proc.set_stat(reused, "x", "R", 101)
    shutil.rmtree(ended)
    answer = next(answers)
    assert pids(answer) == {8}
    assert answer["unread"] == []


def test_container_that_ended_or_whose_first_process_is_anothers_is_gone(proc: FakeProc) -> None:
    proc.add(8, OTHER)
    assert [answer["gone"] for answer in proc.read((ONE, 7), (ONE.replace("1", "3"), 8))] == [True, True]


def test_container_without_group_is_told_by_its_writable_layer(proc: FakeProc) -> None:
    place = proc.add(7, "", space=ONE)
    for upper, gone in ((proc.upper, False), ("/another/diff", True)):
        (place / "mountinfo").write_text(
            f"1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir={upper},workdir=/w\n"
        )
        (answer,) = proc.read((ONE, 7))
        assert answer["gone"] is gone
        assert pids(answer) == (set() if gone else {7})


def test_what_cannot_be_read_is_said(proc: FakeProc) -> None:
    proc.add(7, ONE)
    place = proc.add(8, ONE)
    (place / "status").unlink()
    (place / "status").mkdir()
    (answer,) = proc.read((ONE, 7))
    assert pids(answer) == {7}
    assert answer["unread"] == ["process 8: a file: Is a directory"]
    (place / "status").rmdir()
    (place / "status").write_text("nonsense")
    (answer,) = proc.read((ONE, 7))
    assert parse_sighting(answer).unread == ("process 8: its status cannot be parsed",)


def test_tables_of_a_process_that_ended_are_read_by_another(proc: FakeProc) -> None:
    (proc.add(7, ONE) / "net/tcp").unlink()
    (proc.add(8, ONE) / "net/tcp").write_text(observed.TCP)
    (answer,) = proc.read((ONE, 7))
    assert pids(answer) == {8}
    (network,) = parse_sighting(answer).networks
    assert [socket.port for socket in network.listening] == [8000, 8001]


def test_container_that_runs_without_any_process_to_be_seen_is_not_clean(proc: FakeProc) -> None:
    place = proc.add(7, ONE)
    (place / "exe").unlink()  # as if it had ended, but it goes on
    (answer,) = proc.read((ONE, 7))
    assert answer["unread"] == ["its processes, which were not found"]


def test_thousand_processes_are_read_and_time_that_is_up_is_said(proc: FakeProc) -> None:
    proc.add(2, ONE)
    for pid in range(100_000, 101_000):
        (proc.folder / str(pid)).symlink_to("2")
    (answer,) = proc.read((ONE, 2))
    assert len(pids(answer)) == 1001
    assert len(answer["code"]) == 1
    (answer,) = proc.read((ONE, 2), seconds=-1)
    assert answer["unread"] == ["1001 of its 1001 processes, for lack of time"]


def test_names_with_line_ends_and_brackets_change_nothing(proc: FakeProc) -> None:
    place = proc.add(7, ONE, name="x) Z 1\n(y", maps="1-2 r-xp 0 0:1 1 /usr/e\\012vil\n")
    (place / "mountinfo").write_text(MOUNTINFO + "3 1 0:3 / /li\x0bne\\012end rw - ext4 /dev/x rw\n")
    (answer,) = proc.read((ONE, 7))
    assert pids(answer) == {7}
    assert [one["path"] for one in answer["code"]] == [str(proc.program), "/usr/e\nvil"]
    assert parse_sighting(answer).mounts[-1].target == "/li\x0bne\nend"


def test_process_whose_first_thread_has_ended_is_read_by_another(proc: FakeProc) -> None:
    place = proc.add(7, ONE, state="Z")
    (place / "exe").unlink()
    (answer,) = proc.read((ONE, 7))
    assert answer["gone"], "nothing of it runs"
    thread = proc.add(8, "")
    thread.rename(place / "task/8")
    (answer,) = proc.read((ONE, 7))
    assert pids(answer) == {7}
    assert [one["path"] for one in answer["code"]] == [str(proc.program)]


def test_runtime_that_is_about_to_become_the_command_is_no_process_of_the_container(
    proc: FakeProc, tmp_path: Path
) -> None:
    proc.add(7, ONE)
    runc = tmp_path / "runc"
    runc.write_text("another prog")
    (answer,) = proc.read((ONE, 7), runtimes=(str(runc),))
    assert pids(answer) == {7}
    shutil.copy(proc.program, runc)
    (answer,) = proc.read((ONE, 7), runtimes=("/none", str(runc)))
    assert (answer["gone"], answer["unread"], pids(answer)) == (False, [], set())


def test_process_that_changes_whenever_it_is_read_is_not_clean(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.add(7, ONE)
    numbers = itertools.count()
    monkeypatch.setattr(process_reading, "identify", lambda _process: next(numbers))
    (answer,) = proc.read((ONE, 7))
    assert pids(answer) == set()
    assert answer["unread"] == ["process 7: it became another program each time that it was read"]
