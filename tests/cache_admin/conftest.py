"""A made-up cache, and requests to see to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit.cli.cache import run as run_cache
from buildkit.cli.guard import guarded
from tests.cache_admin.stocked import Stocked

Ask = Callable[..., Any]


@pytest.fixture
def stocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stocked:
    """A project with its own cache, and no tool that could read the user's storage."""
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BUILDKIT_STORE", str(tmp_path / "store"))
    return Stocked(tmp_path)


@pytest.fixture
def ask(stocked: Stocked, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``nox -s cache -- …`` and return its JSON; ``code`` is the expected exit code."""

    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        found = guarded(lambda: run_cache(stocked.project, [*arguments, "--json"]))
        output = capsys.readouterr()
        assert found == code, output.err
        return json.loads(output.out)

    return run


@pytest.fixture
def read(stocked: Stocked, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run it without ``--json``, and return standard output and standard error."""

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        found = guarded(lambda: run_cache(stocked.project, list(arguments)))
        output = capsys.readouterr()
        assert found == code, output.err
        return output.out, output.err

    return run
