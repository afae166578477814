"""Diagnose this host."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from buildkit.build.context import cache_folder
from buildkit.doctor.checks import check_host
from buildkit.doctor.diagnosis import Diagnosis
from buildkit.doctor.probe import probe_host
from buildkit.tools.emulation import can_emulate


def diagnose(cache: Path | None = None, arches: Collection[str] = ()) -> tuple[Diagnosis, ...]:
    """Return the findings on this host and on the folder of the cache (default: the user's).

    ``arches`` are other processors that images are wanted for, by the kernel's names.
    """
    facts = probe_host(cache_folder() if cache is None else cache)
    return check_host(replace(facts, emulated={arch: can_emulate(arch) for arch in arches}))
