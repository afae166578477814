"""Bent input for everything that reads foreign bytes: a few dozen here, as many as time allows in ``nox -s fuzz``.

``BUILDKIT_FUZZ_SECONDS`` (set by the session) are for all targets that are chosen together. What is found is kept under
``reports/fuzz/`` and tried first the next time.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.fuzz.explore import REPORTS, explore
from tests.fuzz.targets import TARGETS

SECONDS = float(os.environ.get("BUILDKIT_FUZZ_SECONDS", "0"))


@pytest.mark.parametrize("name", TARGETS)
def test_target_raises_only_expected_errors(
    name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if not SECONDS:
        explore(TARGETS[name], examples=25)
        return
    chosen = sum(item.originalname == "test_target_raises_only_expected_errors" for item in request.session.items)
    start = time.monotonic()
    count = explore(TARGETS[name], seconds=SECONDS / chosen, reports=REPORTS)
    with capsys.disabled():
        print(f"\n{name}: {count} inputs in {time.monotonic() - start:.1f} s", flush=True)
