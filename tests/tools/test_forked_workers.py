"""Functions in forked processes: results, errors, progress, and processes that end whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buildkit.errors import BuildError, DamagedError, Interrupted
from buildkit.tools.forked_workers import ForkedWorkers, run_here
from buildkit.tools.usage import measure_thread
from tests.waiting import wait_until

Progress = Callable[[int], None]


def ignore(_done: int) -> None:
    return


def double(_progress: Progress, number: int) -> tuple[int, int]:
    return os.getpid(), 2 * number


def count(progress: Progress, upto: int) -> int:
    for number in range(upto):
        progress(number)
    return upto


def burn(_progress: Progress, seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def lose(_progress: Progress, _question: None) -> None:
    raise DamagedError("other bytes", digests=("ab", "cd"), hint="build again")


def divide(_progress: Progress, _question: None) -> float:
    return 1 / 0


def die(_progress: Progress, _question: None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_and_report(progress: Progress, place: Path) -> None:
    """Report until that fails; what is in use is then put away."""
    try:
        place.write_text(str(os.getpid()))
        while True:
            progress(1)
            time.sleep(0.01)
    finally:
        place.unlink()


def list_files(_progress: Progress, _question: None) -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of the process


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_functions_run_in_other_processes_at_once() -> None:
    with ForkedWorkers(2) as workers, ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda number: workers.run(double, ignore, number), range(20)))
    assert [doubled for _, doubled in answers] == list(range(0, 40, 2))
    pids = {pid for pid, _ in answers}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    assert not any(map(lives, pids))


def test_here_and_there_give_the_same() -> None:
    assert run_here(double, ignore, 2) == (os.getpid(), 4)


def test_progress_is_reported_in_order() -> None:
    seen: list[int] = []
    with ForkedWorkers(1) as workers:
        assert workers.run(count, seen.append, 50) == 50
    assert seen == list(range(50))


def test_errors_are_raised_with_all_that_they_say() -> None:
    with ForkedWorkers(1) as workers:
        with pytest.raises(DamagedError, match="other bytes") as caught:
            workers.run(lose, ignore, None)
        with pytest.raises(ZeroDivisionError):
            workers.run(divide, ignore, None)
        assert workers.run(double, ignore, 2)[1] == 4  # it still works
    assert (caught.value.digests, caught.value.hint) == (("ab", "cd"), "build again")


def test_cpu_time_counts_for_the_thread_that_called() -> None:
    before = measure_thread()
    with ForkedWorkers(1) as workers:
        workers.run(burn, ignore, 0.2)
    assert (measure_thread() - before).cpu >= 0.2


def test_killed_process_is_an_error_of_every_call() -> None:
    with ForkedWorkers(1) as workers:
        for _ in range(2):
            with pytest.raises(BuildError, match="a process of this build was killed by SIGKILL") as caught:
                workers.run(die, ignore, None)
    assert "--jobs 1" in caught.value.hint


def test_stopped_work_puts_away_what_it_had(tmp_path: Path) -> None:
    place = tmp_path / "half"

    def stop(_done: int) -> None:
        raise Interrupted("interrupted")

    with ForkedWorkers(1) as workers:
        with pytest.raises(Interrupted):
            workers.run(write_and_report, stop, place)
        wait_until(lambda: not place.exists())


def test_processes_hold_nothing_of_this_one(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w"), ForkedWorkers(2) as workers:
        assert workers.run(list_files, ignore, None) == ["0", "1", "2", "3", "4"]  # the last lists the folder


def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from buildkit.tools.forked_workers import ForkedWorkers
        from tests.tools.test_forked_workers import ignore, write_and_report
        with ForkedWorkers(2) as workers:
            workers.run(write_and_report, ignore, Path({str(tmp_path / "half")!r}))
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2]) as killed:
        wait_until(lambda: (tmp_path / "half").exists() and (tmp_path / "half").read_text())
        worker = int((tmp_path / "half").read_text())
        killed.kill()
    wait_until(lambda: not (tmp_path / "half").exists() and not lives(worker))


def test_signals_to_the_whole_group_are_left_to_who_forked() -> None:
    with ForkedWorkers(1) as workers:
        pid = workers.run(double, ignore, 1)[0]
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert workers.run(double, ignore, 1)[0] == pid
