"""Model files are scanned once each, and other scanners read them meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from buildkit.build.context import open_context
from buildkit.build.model_scanner import ModelScanner
from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.declare.project import parse_project
from buildkit.digest import FileHash
from buildkit.events import ignore_event
from buildkit.scan import UNKNOWN_CONTENT
from buildkit.tools.opinion_engines import Engine

_ENGINE = """
def scan_file_path(path):
    open({started!r}, "w").close()
    raise ValueError
"""


def test_other_scanners_read_a_file_while_ours_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, weights = tmp_path / "started", os.urandom(3 << 20)
    (tmp_path / "picklescan").mkdir()
    (tmp_path / "picklescan/__init__.py").touch()
    (tmp_path / "picklescan/scanner.py").write_text(_ENGINE.format(started=str(started)))
    (tmp_path / "weights.bin").write_bytes(weights)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.find_engines", lambda: (Engine(name="picklescan", version="0"),))
    seen: list[bool] = []

    def progress(_done: int) -> None:
        end = time.monotonic() + 30
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(started.exists())

    with open_context(parse_project("", tmp_path), ignore_event) as context:
        scanner = ModelScanner(context, ModelAllowlist())
        with (tmp_path / "weights.bin").open("rb") as file:
            result = scanner.scan("m/weights.bin", FileHash.of(weights), file, progress)
    assert seen
    assert all(seen)
    assert [gap.why for gap in result.gaps] == [UNKNOWN_CONTENT]
