"""Second opinions: the real scanners on plain pickles, and misbehaving fakes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from buildkit.build.opinions import disagreements
from buildkit.findings import Severity
from buildkit.scan import BytesSource, scan
from buildkit.tools import process
from buildkit.tools.opinion_engines import ENGINES, Engine, find_engines
from buildkit.tools.second_opinions import Opinion, SecondOpinions
from tests.scan.craft import calling

GOOD = pickle.dumps({"w": [1.0, 2.0]})


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.pkl"
    path.write_bytes(data)
    return path


def ask(engine: Engine, path: Path, **limits: int) -> Opinion:
    with SecondOpinions((engine,)).needed() as opinions:
        (opinion,) = opinions.ask(path, **limits)
    return opinion


def test_both_engines_are_found_with_their_versions() -> None:
    found = find_engines()
    assert [engine.name for engine in found] == list(ENGINES)
    assert all(engine.version for engine in found)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_distinguishes_unsafe_and_safe_files(name: str, tmp_path: Path) -> None:
    engine = Engine(name=name, version="")
    bad = ask(engine, write(tmp_path, calling()))
    assert bad.unsafe is True
    assert "system" in bad.why
    assert ask(engine, write(tmp_path, GOOD)) == Opinion(engine=engine, unsafe=False, why="")


def test_beginning_of_a_file_is_enough_for_an_engine_that_reads_before_it_looks(tmp_path: Path) -> None:
    text = b"x" * (1 << 20)
    path = write(tmp_path, b"\x80\x04B" + len(text).to_bytes(4, "little") + text + b"0" + calling()[2:])
    engine = Engine(name="modelaudit-picklescan", version="")
    assert ask(engine, path).unsafe is True
    assert ask(engine, path, most=1 << 10).unsafe is None


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Engine:
    (folder / "picklescan").mkdir()
    (folder / "picklescan/__init__.py").touch()
    (folder / "picklescan/scanner.py").write_text(f"def scan_file_path(path):\n    {body}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return Engine(name="picklescan", version="0")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True: pass", "killed by"),
        ("return bytearray(1 << 40)", "MemoryError"),
        ("raise ValueError('odd')", "ValueError: odd"),
        ("import absent.core", "it needs absent, which is not installed (uv pip install absent)"),
        ("import os; os._exit(0)", "cannot be read"),
        ("print('x' * 9); import os; os._exit(0)", "cannot be read"),
    ],
)
def test_an_engine_that_fails_has_no_opinion(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fake(tmp_path, monkeypatch, body)
    opinion = ask(engine, write(tmp_path, GOOD), seconds=1, memory=1 << 30)
    assert (opinion.unsafe, opinion.failed) == (None, True)
    assert message in opinion.why


def test_one_process_serves_many_files_and_a_failure_at_one_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import os; print(os.getppid()) or os._exit(0) if 'bad' in path else None\n    1 / 0"
    engine = fake(tmp_path, monkeypatch, body)
    with SecondOpinions((engine,)).needed() as opinions:
        failed = [opinions.ask(tmp_path / name)[0].why for name in ("a", "bad", "c")]
    assert ["ZeroDivisionError" in why for why in failed] == [True, False, True]


def test_process_is_started_again_if_it_was_killed_and_ends_with_its_last_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import os, signal; os.kill(os.getppid(), signal.SIGKILL) if 'bad' in path else None\n    1 / 0"
    opinions = SecondOpinions((fake(tmp_path, monkeypatch, body),))
    with opinions.needed(), opinions.needed():
        assert "was ended" in opinions.ask(tmp_path / "bad")[0].why
        assert "ZeroDivisionError" in opinions.ask(tmp_path / "good")[0].why
        assert process._running
    assert not process._running


def found(data: bytes, *, unsafe: bool | None) -> list[tuple[str, Severity]]:
    opinion = Opinion(engine=Engine(name="other", version="1"), unsafe=unsafe, why="it says so")
    scanned = scan("m", BytesSource(data))
    return [(one.rule.id, one.severity) for one in disagreements("m", scanned, (opinion,))]


def test_only_disagreement_between_scanners_is_a_finding() -> None:
    assert found(GOOD, unsafe=True) == [("engines-disagree", Severity.HIGH)]
    assert found(calling(), unsafe=False) == [("engines-disagree", Severity.NOTE)]
    assert found(GOOD, unsafe=False) == found(calling(), unsafe=True) == []
    failed = Opinion(engine=Engine(name="other", version="1"), unsafe=None, why="broken", failed=True)
    (said,) = disagreements("m", scan("m", BytesSource(GOOD)), (failed,))
    assert (said.rule.id, said.severity, said.what) == ("second-opinion-failed", Severity.NOTE, "other 1: broken")
    assert found(GOOD, unsafe=None) == found(calling(), unsafe=None) == []
