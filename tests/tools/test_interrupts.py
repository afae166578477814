"""SIGTERM ends a request as Ctrl-C does, from its first line to its last."""

from __future__ import annotations

import signal
import threading

import pytest

from buildkit.cli.guard import guarded
from buildkit.tools.interrupts import deferred_interrupts, interruptible


def test_sigterm_interrupts_only_inside_the_context() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signal_handlers_alone() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with interruptible():
                pass
        except BaseException as error:  # noqa: BLE001 - whatever it is
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sigterm_interrupts_a_request_at_any_point(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(lambda: signal.raise_signal(number)) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_deferred_interrupts_take_effect_at_the_end_of_the_block(number: signal.Signals) -> None:
    ended = threading.Event()

    def work() -> None:
        with interruptible(), deferred_interrupts():
            signal.raise_signal(number)
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ended.is_set()
