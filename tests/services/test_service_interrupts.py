"""Ctrl-C before and after every command of podman that a start, a replacement and an end consist of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from buildkit.declare.services_file import parse_services
from buildkit.events import ignore_event
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.services.start import StartOptions, start_environment
from tests.services.conftest import describe
from tests.services.fake_podman import FakePodman
from tests.services.test_services_live import TEXT

OPTIONS = StartOptions(folder=Path(__file__).parent, patience=1.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TINY_TOKEN", "first")


def make(text: str = TEXT) -> RunningEnvironment:
    return make_environment(parse_services(text, stages=("server",)), "t", describe, project="tiny")


def interrupted(podman: FakePodman, action: Callable[[], object]) -> bool:
    """Do something with this podman; return whether Ctrl-C ended it."""
    with pytest.MonkeyPatch.context() as patch:
        podman.recorder.install(patch)
        try:
            action()
        except KeyboardInterrupt:
            return True
    return False


def start(environment: RunningEnvironment) -> Callable[[], object]:
    return lambda: start_environment(environment, OPTIONS, ignore_event)


def every(action: Callable[[], object], *, runs: bool, second: bool) -> Iterator[FakePodman]:
    """Yield podman after an action that was interrupted at one of its commands, for all of them, in turn.

    The environment ``runs`` before it. With a ``second`` interrupt, each command after the first is the second's place.
    """
    for early in (True, False):
        for number in count():
            for later in count(1) if second else (0,):
                podman = FakePodman("-migrate")
                if runs:
                    assert not interrupted(podman, start(make()))
                podman.interrupt(*{number, number + later}, early=early)
                ended = interrupted(podman, action)
                assert ended == bool(podman.interrupted)
                if podman.interrupted <= bool(later):
                    break  # there is no such command
                yield podman
            if not podman.interrupted:
                break


@pytest.mark.parametrize("second", [False, True])
def test_interrupts_of_a_start_leave_volumes_and_generated_secrets_alone(second: bool) -> None:
    seen = 0
    for podman in every(start(make()), runs=False, second=second):
        seen += 1
        assert (podman.containers, podman.networks) == ({}, {}), podman.recorder.verbs
        assert set(podman.secrets) <= {"tiny-t-made"}, podman.recorder.verbs
    assert seen > 30


@pytest.mark.parametrize("second", [False, True])
def test_interrupts_of_a_replacement_bring_back_what_ran(second: bool) -> None:
    changed = make(TEXT.replace('"/run/secrets/token"', '"/run/secrets/made"'))
    seen = 0
    for podman in every(start(changed), runs=True, second=second):
        seen += 1
        assert podman.running == {"tiny-t-app", "tiny-t-db"}, podman.recorder.verbs
        assert set(podman.containers) == {"tiny-t-app", "tiny-t-db", "tiny-t-migrate"}, podman.recorder.verbs
    assert seen > 10
