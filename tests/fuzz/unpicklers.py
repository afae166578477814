"""CPython's own unpicklers, in C and in Python, made inert: they record the globals that a stream reaches, no more."""

from __future__ import annotations

import io
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.scan import BytesSource, ScanLimits
from buildkit.scan.pickle.opcodes import run_pickle
from buildkit.scan.pickle.recognise import DryRunWatcher
from buildkit.scan.pickle.values import UNKNOWN, CallResult, Global, Value

MEMORY = 1 << 28  # bytes that an unpickler may add to this process


class InertType(type):
    """The type of the stand-in, so that it may itself be filled and given state."""

    def ignore(cls, *args: Any) -> None:
        pass

    append = extend = add = __setitem__ = __setstate__ = ignore


class Inert(metaclass=InertType):
    """Stands for every global, and for what calling it returns."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    def ignore(self, *args: Any) -> None:
        pass

    append = extend = add = __setitem__ = __setstate__ = ignore


class CUnpickler(pickle.Unpickler):
    def __init__(self, stream: bytes, encoding: str) -> None:
        super().__init__(io.BytesIO(stream), encoding=encoding)
        self.reached: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.reached.add((module, name))
        return Inert

    def persistent_load(self, key: Any) -> Any:
        return Inert()


class PythonUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    def __init__(self, stream: bytes, encoding: str) -> None:
        super().__init__(io.BytesIO(stream), encoding=encoding)
        self.reached: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.reached.add((module, name))
        return Inert

    def persistent_load(self, key: Any) -> Any:
        return Inert()


class Recorder(DryRunWatcher):
    """Records what our machine reaches; ``blind`` if it reports a global without knowing its name."""

    def __init__(self) -> None:
        self.reached: set[tuple[str, str]] = set()
        self.blind = False

    def imported(self, symbol: Global) -> None:
        self.reached.add((symbol.module, symbol.name))

    def unresolved(self, module: Value, name: Value, offset: int) -> None:
        self.blind = True

    def ambiguous(self, why: str, offset: int) -> None:
        self.blind = True

    def extension(self, code: int, offset: int) -> None:
        self.blind = True

    def called(self, callee: Value, args: Value, offset: int) -> Value:
        return UNKNOWN

    def persistent(self, key: Value, offset: int) -> Value:
        return CallResult(UNKNOWN, (key,))


@contextmanager
def limited() -> Iterator[None]:
    """Limit the memory of the enclosed code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def reach_with_cpython(stream: bytes, encoding: str) -> tuple[set[tuple[str, str]], ...]:
    """Return the globals that each of CPython's unpicklers reaches before it ends or fails."""
    found = []
    for kind in (CUnpickler, PythonUnpickler):
        unpickler = kind(stream, encoding)
        with suppress(Exception):
            unpickler.load()
        found.append(unpickler.reached)
    return tuple(found)


def reach_with_machine(stream: bytes) -> Recorder:
    """Return what our machine reaches."""
    recorder = Recorder()
    run_pickle(BytesSource(stream), 0, recorder, lambda _count: None, ScanLimits())
    return recorder


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The globals that only CPython reaches, and what kind of stream it is."""

    missed: set[tuple[str, str]]
    kinds: tuple[str, ...]


def compare(stream: bytes, encoding: str) -> Comparison:
    """Compare our machine with CPython's unpicklers; what it reports as unknown or ambiguous is not missed."""
    ours = reach_with_machine(stream)
    in_c, in_python = reach_with_cpython(stream, encoding)
    reached = in_c | in_python
    kinds = {
        "reach a global": bool(reached),
        "reach several": len(reached) > 1,
        "differ between C and Python": in_c != in_python,
        "have names that are reported as unknown": bool(reached - ours.reached),
    }
    missed = set() if ours.blind else reached - ours.reached
    return Comparison(missed=missed, kinds=tuple(kind for kind, holds in kinds.items() if holds))
