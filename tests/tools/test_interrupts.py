"""SIGTERM ends a request as Ctrl-C does, from its first line to its last."""

from __future__ import annotations

import signal
import threading

import pytest

from buildkit.cli.guard import guarded
from buildkit.tools.interrupts import interruptible


def test_sigterm_means_what_ctrl_c_means_only_while_it_lasts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_threads_may_not_set_signals_and_need_not() -> None:
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
def test_a_request_is_interrupted_wherever_it_is(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(lambda: signal.raise_signal(number)) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before
