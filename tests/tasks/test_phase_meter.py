"""The phase meter: seconds, CPU time and bytes of threads and of the programs that they run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tools.process import Command, run
from buildkit.tools.usage import ResourceUsage, WorkCost

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_phase_measures_its_own_cpu_time_and_bytes(tmp_path: Path) -> None:
    meter = PhaseMeter()
    with meter.phase("pack"):
        (tmp_path / "x").write_bytes(b"x" * 1_000_000)
        (tmp_path / "x").read_bytes()
        burn(0.05)
    with meter.phase("idle"):
        time.sleep(0.02)
    spent = meter.read()
    assert spent["pack"].usage.written >= 1_000_000
    assert spent["pack"].usage.read >= 1_000_000
    assert spent["pack"].usage.cpu >= 0.05
    assert spent["idle"].seconds >= 0.02
    assert spent["idle"].usage.cpu < spent["pack"].usage.cpu
    assert spent["idle"].usage.written < 1000


def test_program_and_its_children_count_for_the_phase_that_ran_it() -> None:
    meter = PhaseMeter()
    with meter.phase("run"):
        run(Command(argv=("sh", "-c", f"python3 -c '{BURN}'; head -c 2000000 /dev/zero | tail -c 1")))
    with meter.phase("other"):
        run(Command(argv=("true",)))
    spent = meter.read()
    assert spent["run"].usage.cpu >= 0.3
    assert spent["run"].usage.written >= 2_000_000
    assert spent["other"].usage.cpu < 0.3
    assert spent["other"].usage.written < 1_000_000


def test_concurrent_programs_count_for_the_phases_of_their_threads() -> None:
    meter = PhaseMeter()

    def work(phase: str, count: int) -> None:
        with meter.phase(phase):
            run(Command(argv=("head", "-c", str(count), "/dev/zero")))

    threads = [threading.Thread(target=work, args=(str(n), n * 1_000_000)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = meter.read()
    for n in range(1, 5):
        assert n * 1_000_000 <= spent[str(n)].usage.written < (n + 1) * 1_000_000


def test_nested_phase_counts_for_itself_alone() -> None:
    meter = PhaseMeter()
    with meter.phase("run"):
        with meter.phase("commit"):
            burn(0.5)
        time.sleep(0.01)
    spent = meter.read()
    assert spent["commit"].usage.cpu >= 0.5 > spent["run"].usage.cpu
    assert spent["run"].seconds >= 0.01


def test_failing_phase_is_measured() -> None:
    meter = PhaseMeter()
    with pytest.raises(ZeroDivisionError), meter.phase("pack"):
        _ = 1 / 0
    assert set(meter.read()) == {"pack"}


def test_compress_gets_the_cpu_time_of_threads_without_a_phase() -> None:
    meter = PhaseMeter()
    thread = threading.Thread(target=burn, args=(0.1,))
    thread.start()
    thread.join()
    assert meter.read() == {}
    meter.add("compress", WorkCost(seconds=1.0, usage=ResourceUsage(read=10, written=5)))
    found = meter.read()["compress"]
    assert found.usage.cpu >= 0.1
    assert (found.seconds, found.usage.read, found.usage.written) == (1.0, 10, 5)
    assert found.as_json()["seconds"] == 1.0
