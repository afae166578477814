"""Saying what is being locked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit.errors import BuildkitError
from buildkit.events import Emit, StepFailed, StepFinished, StepStarted


@contextmanager
def said(emit: Emit, step: str, phase: str) -> Iterator[None]:
    """A step that starts and ends with the block."""
    emit(StepStarted(step=step, phase=phase))
    began = time.monotonic()
    try:
        yield
    except BuildkitError as error:
        emit(StepFailed(step=step, phase=phase, message=error.message))
        raise
    emit(StepFinished(step=step, phase=phase, seconds=time.monotonic() - began))
