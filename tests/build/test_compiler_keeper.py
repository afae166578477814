"""A bytecode compiler that outlives a build: one for each root, started again if it has ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from buildkit.build.compiler_keeper import CompilerKeeper
from buildkit.errors import BuildError
from buildkit.layers.wheel.bytecode import Compiler, worker_argv


class Workers:
    """Workers on this host, in place of containers."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, stack: ExitStack) -> Compiler:
        child = stack.enter_context(self._run())
        assert child.stdin is not None
        assert child.stdout is not None
        return stack.enter_context(Compiler(child.stdin, child.stdout))

    @contextmanager
    def _run(self) -> Iterator[subprocess.Popen[bytes]]:
        argv = worker_argv(sys.executable)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            self.started.append(child)
            yield child
        if child.returncode:
            raise BuildError("the worker failed")


def compile_one(compiler: Compiler) -> bool:
    (pyc,) = compiler.submit([("/x.py", b"x = 1\n")]).result(timeout=60)
    return bool(pyc)


def test_a_root_has_one_compiler_until_another_root_is_asked_for() -> None:
    workers = Workers()
    with closing(CompilerKeeper()) as keeper:
        first = keeper.get("root-1", workers.start)
        assert compile_one(first)
        assert keeper.get("root-1", workers.start) is first
        second = keeper.get("root-2", workers.start)
        assert compile_one(second)
        assert [child.poll() for child in workers.started] == [0, None]
    assert [child.poll() for child in workers.started] == [0, 0]


def test_a_compiler_that_was_killed_or_does_not_start_is_no_obstacle() -> None:
    def fail(_stack: ExitStack) -> Compiler:
        raise BuildError("no room")

    workers = Workers()
    with closing(CompilerKeeper()) as keeper:
        with pytest.raises(BuildError, match="no room"):
            keeper.get("root", fail)
        killed = keeper.get("root", workers.start)
        workers.started[0].kill()
        with pytest.raises(BuildError, match="ended before it had compiled everything"):
            killed.submit([("/x.py", b"x = 1\n")]).result(timeout=60)
        assert compile_one(keeper.get("root", workers.start))
    assert [child.poll() for child in workers.started] == [-9, 0]
