"""The suite's second run: what fails beside other tests counts only if it fails alone, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NOXFILE = f"""
import importlib.util, sys
import nox

found = importlib.util.spec_from_file_location("ours", {str(ROOT / "noxfile.py")!r})
ours = importlib.util.module_from_spec(found)
found.loader.exec_module(ours)
nox.options.default_venv_backend = "none"

@nox.session
def suite(session):
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:hypothesispytest", "unstable.py")
    ours.run_all(session, pytest, pytest, {{}})
"""
_TEST = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(9))
def test_one(number):
    with Path(f"runs-{number}").open("a") as runs:
        print(file=runs)
    made = Path(f"runs-{number}").read_text().count("\\n")
    assert made > TIMES.get(number, 0)
"""


def _suite(folder: Path, times: dict[int, int]) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """Run nine tests, of which some fail so many times; return also how often each was run."""
    (folder / "noxfile.py").write_text(_NOXFILE)
    (folder / "unstable.py").write_text(f"TIMES = {times}\n{_TEST}")
    argv = (sys.executable, "-m", "nox", "-s", "suite")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NOX", "PYTEST"))}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    made = [folder / f"runs-{number}" for number in range(9)]
    return done, [len(path.read_text()) if path.exists() else 0 for path in made]


def test_test_that_passes_alone_is_named_and_fails_nothing(tmp_path: Path) -> None:
    done, runs = _suite(tmp_path, {3: 1})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed beside others, and passed alone: unstable.py::test_one[3]" in done.stderr
    assert runs == [1, 1, 1, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("times", [{3: 1, 4: 2}, dict.fromkeys(range(6), 1)], ids=["fails alone", "too many"])
def test_other_failures_fail_the_suite(tmp_path: Path, times: dict[int, int]) -> None:
    done, runs = _suite(tmp_path, times)
    assert done.returncode != 0
    assert "passed alone" not in done.stderr
    assert runs == [1 + (len(times) < 6 and number in times) for number in range(9)]


def test_suite_that_did_not_end_fails(tmp_path: Path) -> None:
    """What is known to have failed would pass alone, but the rest was never run."""
    end = "def pytest_runtest_logreport(report):\n    if report.failed:\n        pytest.exit('stopped', 3)\n"
    (tmp_path / "conftest.py").write_text(f"import pytest\n\n{end}")
    done, runs = _suite(tmp_path, {3: 1})
    assert done.returncode != 0
    assert runs == [1, 1, 1, 1, 0, 0, 0, 0, 0]


def test_suite_that_cannot_be_read_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("raise RuntimeError")
    done, runs = _suite(tmp_path, {})
    assert done.returncode != 0
    assert runs == [0] * 9
