"""A question whose answer nobody waits for, and what becomes of an error in it."""

from __future__ import annotations

import pytest

from buildkit.tools.asked_apart import AskedApart


def test_an_error_that_nobody_expected_reaches_who_asked_and_the_next_question_is_asked() -> None:
    answers = iter((1, ZeroDivisionError("of no kind that podman has"), 3))

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asked = AskedApart(ask, patience=60)
    assert asked() == 1
    with pytest.raises(ZeroDivisionError):
        asked()
    assert asked() == 3
