"""The pool of threads, and what the standard pool would leave running."""

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from buildkit.worker_pool import WorkerPool

_PACKAGE = Path(__file__).parent.parent / "buildkit"


def interrupt_after_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise Ctrl-C once at its worst moment: a thread has started, and its pool has not recorded it yet."""
    start = threading.Thread.start

    def start_then_raise(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_then_raise)


def test_block_interrupted_while_a_thread_starts_waits_for_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.3)
        ended.set()

    def submit_and_wait() -> None:
        with WorkerPool(1) as pool:
            try:
                pool.submit(work)
            finally:
                began.wait(60)

    interrupt_after_start(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        submit_and_wait()
    assert ended.is_set()


def test_work_left_over_after_the_block_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    left: list = []
    with WorkerPool(1) as pool:
        monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.submit", lambda _pool, work: left.append(work))
        pool.submit(ran.append, 1)
    with pytest.raises(CancelledError):
        left[0]()
    assert ran == []


def test_results_and_exceptions_reach_the_future() -> None:
    with WorkerPool(2) as pool:
        assert list(pool.map(pow, [2, 3], [3, 2])) == [8, 9]
        failed = pool.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result()


def test_package_opens_no_standard_pool() -> None:
    found = [path.name for path in _PACKAGE.rglob("*.py") if "ThreadPoolExecutor" in path.read_text()]
    assert found == ["worker_pool.py"]
