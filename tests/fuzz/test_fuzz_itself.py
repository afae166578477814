"""The fuzzer finds unexpected errors, hangs, excessive memory use, and text that controls a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from buildkit.errors import BuildError
from tests.fuzz import explore as engine
from tests.fuzz.explore import attempt, explore
from tests.fuzz.mutate import MOST, mutated
from tests.fuzz.targets import TARGETS, Target


def target(run: Callable[[bytes], object], kind: str = "bytes", seed: bytes = b"valid") -> Target:
    return Target(name="made", run=run, kind=kind, errors=(BuildError,), make_seeds=lambda: [seed])


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "seeds", property(lambda self: tuple(self.make_seeds())))
    monkeypatch.setattr(engine, "INPUT_SECONDS", 0.2)


def refuse(data: bytes) -> None:
    raise BuildError("no")


def steer(data: bytes) -> None:
    raise BuildError("no" + data.decode("latin-1"))


def spin(data: bytes) -> None:
    while True:
        pass


def test_buildkit_error_is_accepted() -> None:
    attempt(target(refuse), b"x")


def test_messages_match_printed_form() -> None:
    attempt(target(steer), b"\x1b[31m")  # cleaned on the way


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (spin, "takes more than 0.2 s"),
        (lambda data: bytearray(2 * engine.MEMORY), "takes more than 1024 MiB"),
    ],
)
def test_excessive_time_or_memory_fails(run: Callable[[bytes], object], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        attempt(target(run), b"x")


def test_other_error_fails_and_its_input_is_saved_and_retried_first(tmp_path: Path) -> None:
    def run(data: bytes) -> None:
        if data != b"valid":
            raise ValueError("bent")

    with pytest.raises(ValueError, match="bent"):
        explore(target(run), seconds=5, reports=tmp_path)
    (kept,) = (tmp_path / "made").iterdir()
    tried: list[bytes] = []
    explore(target(tried.append), seconds=0.01, reports=tmp_path)
    assert tried[0] == kept.read_bytes() != b"valid"


def test_fuzzing_stops_at_time_limit() -> None:
    count = explore(target(lambda data: None), seconds=0.5)
    assert 0 < count < 1_000_000


@pytest.mark.parametrize(
    ("kind", "seed"), [("bytes", b"ab"), ("text", b'a = "b"\nc = 1\n'), ("json", b'{"a": [1, {"b": "c"}]}')]
)
def test_inputs_are_mutated_and_bounded(kind: str, seed: bytes) -> None:
    seen: set[bytes] = set()

    @settings(max_examples=60, derandomize=True, database=None)
    @given(mutated(kind, [seed]))
    def draw(content: bytes) -> None:
        assert len(content) <= MOST * 4
        seen.add(content)

    draw()
    assert len(seen) > 20


def test_every_target_takes_its_seeds() -> None:
    assert len(TARGETS) > 30
    assert all(one.kind in ("bytes", "text", "json") for one in TARGETS.values())
    assert all(
        json.loads(seed) is not None for one in TARGETS.values() if one.kind == "json" for seed in one.make_seeds()
    )
