"""Diagnose this host."""

from __future__ import annotations

from pathlib import Path

from buildkit.build.context import cache_folder
from buildkit.doctor.checks import check_host
from buildkit.doctor.diagnosis import Diagnosis
from buildkit.doctor.probe import probe_host


def diagnose(cache: Path | None = None) -> tuple[Diagnosis, ...]:
    """Return the findings on this host and on the folder of the cache (default: the user's)."""
    return check_host(probe_host(cache_folder() if cache is None else cache))
