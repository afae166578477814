"""Fuzz one target: hypothesis draws inputs, limits apply, and failing inputs are saved."""

from __future__ import annotations

import hashlib
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import ROOT, Target, harmless

REPORTS = ROOT / "reports/fuzz"
INPUT_SECONDS = 5.0  # of the processor, for one input
MEMORY = 1 << 30  # bytes that one input may add to this process
_ROUND = 200


class Hang(BaseException):
    """An input takes too long; no handler of ours may take it for an error."""


def attempt(target: Target, content: bytes) -> None:
    """Pass one input to the target; AssertionError if it breaks the rules."""
    try:
        with limits():
            target.run(content)
    except target.errors as error:
        harmless(error)
    except Hang:
        raise AssertionError(
            f"{target.name}: an input of {len(content)} bytes takes more than {INPUT_SECONDS:g} s"
        ) from None
    except MemoryError:
        raise AssertionError(
            f"{target.name}: an input of {len(content)} bytes takes more than {MEMORY >> 20} MiB"
        ) from None


def explore(target: Target, *, examples: int = 0, seconds: float = 0.0, reports: Path | None = None) -> int:
    """Mutate the seeds ``examples`` times, deterministically, or for ``seconds``, at random; return how many inputs."""
    tried = 0
    until = time.monotonic() + seconds
    rounds = settings(
        max_examples=examples or _ROUND,
        derandomize=not seconds,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,) if seconds else (Phase.generate, Phase.shrink),
    )

    @rounds
    @given(mutated(target.kind, target.seeds))
    def throw(content: bytes) -> None:
        nonlocal tried
        if seconds and time.monotonic() > until:
            return
        tried += 1
        with save_failing_input(target, content, reports):
            attempt(target, content)

    for content in (*_known(target, reports), *target.seeds):
        with save_failing_input(target, content, reports):
            attempt(target, content)
    throw()
    while time.monotonic() < until:
        throw()
    return tried


@contextmanager
def save_failing_input(target: Target, content: bytes, reports: Path | None) -> Iterator[None]:
    """Write a failing input to the reports, named by its hash."""
    try:
        yield
    except BaseException as error:
        if reports is not None:
            place = reports / target.name / hashlib.sha256(content).hexdigest()[:16]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            error.add_note(f"the input is kept as {place}")
        raise


def _known(target: Target, reports: Path | None) -> list[bytes]:
    folder = reports / target.name if reports else None
    return [path.read_bytes() for path in sorted(folder.glob("*"))] if folder and folder.is_dir() else []


@contextmanager
def limits() -> Iterator[None]:
    """Limit CPU seconds and memory of the enclosed code; main thread only."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY if hard < 0 else min(size + MEMORY, hard), hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, INPUT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
