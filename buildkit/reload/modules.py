"""Which modules are imported once for all workers: those that a worker imported outside the application's files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from .code import module_file
from .trees import AppTrees

NEVER = ("__main__", "__mp_main__", "antigravity", "this", "idlelib", "buildkit_reload", "pytest", "_pytest")
"""Modules whose import means something: they stay out, with all below them."""

NEVER_DEBUGGER = ("debugpy", "pydevd", "_pydev_bundle", "_pydev_runfiles", "_pydevd_bundle", "_pydevd_frame_eval")

CANNOT_FORK = ("gevent", "eventlet")
"""Libraries that replace sockets and threads by their own; processes that have imported them are not forked."""


def learn_modules(loaded: Mapping[str, ModuleType | None], trees: AppTrees) -> list[str]:
    """Return the names to import ahead, in the order in which they were imported."""
    names = []
    for name, module in list(loaded.items()):
        first = name.partition(".")[0]
        if first in NEVER or first in NEVER_DEBUGGER or getattr(module, "__spec__", None) is None:
            continue
        file = module_file(module)
        if file and trees.holds(file):
            continue
        names.append(name)
    return names


def application_files(loaded: Mapping[str, ModuleType | None], trees: AppTrees) -> list[str]:
    """Return the application's files that these modules were made of, sorted."""
    files = {module_file(module) for module in list(loaded.values())}
    return sorted(file for file in files if file and trees.holds(file))


def preload(names: Iterable[str]) -> tuple[list[str], str]:
    """Import modules; return those that were, and the first after whose import this process had more than one thread.

    A module that cannot be imported is left to whoever needs it: the error is then raised where it is seen.
    """
    done: list[str] = []
    for name in names:
        if name in sys.modules:
            done.append(name)
            continue
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001, S112 - see above
            continue
        done.append(name)
        if count_threads() > 1:
            return done, name
    return done, ""


def count_threads() -> int:
    """Return the number of threads of this process, those of native libraries included."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - only their number


def find_unforkable(loaded: Mapping[str, Any]) -> str:
    """Return why this process must not be forked, empty if it may be."""
    for name in CANNOT_FORK:
        if name in loaded:
            return f"{name} is loaded, which replaces sockets and threads"
    cuda = getattr(loaded.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        return "CUDA is initialised, and its context does not survive a fork"
    return ""


class _After:
    """A finder that calls a function after a module was executed."""

    def __init__(self, name: str, call: Callable[[ModuleType], None]) -> None:
        self._name, self._call, self._busy = name, call, False

    def find_spec(self, name: str, *_: Any) -> Any:
        """Return the spec that the other finders give, with a loader that calls afterwards."""
        if name != self._name or self._busy:
            return None
        self._busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._busy = False
        if spec is None or spec.loader is None:
            return None
        execute, call = spec.loader.exec_module, self._call

        def exec_module(module: ModuleType) -> None:
            execute(module)
            call(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def when_imported(name: str, call: Callable[[ModuleType], None]) -> None:
    """Call a function with a module: now if it is imported, else right after its import."""
    if name in sys.modules:
        call(sys.modules[name])
    else:
        sys.meta_path.insert(0, _After(name, call))
