"""Sections of the monitor's page that are not about containers: GPUs as devices, findings, builds. Plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from buildkit.build.planner import Planner
from buildkit.gpu.use import GpuUse
from buildkit.inspection.timings import find_builds, sum_phases
from buildkit.store.cache_files import scan_cache_folder

_BUILDS = 20
_FINDINGS = 200


def list_gpus(uses: Iterable[GpuUse]) -> list[dict[str, Any]]:
    """Return the devices: shares are 0 to 1, sizes bytes, temperatures °C, power watts; None is what is not known."""
    return [
        {
            "index": use.index,
            "uuid": use.uuid,
            "name": use.health.name,
            "utilisation": use.utilisation,
            "memory": use.memory,
            "total": use.total,
            "temperature": use.health.temperature,
            "power": use.health.power,
            "corrected": use.health.corrected,
            "uncorrected": use.health.uncorrected,
            "xid": use.health.xid,
            "problem": use.problem,
        }
        for use in uses
    ]


def list_builds(planner: Planner) -> dict[str, Any]:
    """Return ``{"builds", "phases", "cache"}`` of this host's ledger, which is read and not changed.

    ``builds`` are those of `find_builds`, ``phases`` their cost in all, the longest first; ``cache`` is the size of its
    folder in bytes and the number of its blobs.
    """
    builds = find_builds(planner, list(planner.graph.stages), _BUILDS)
    content = scan_cache_folder(planner.context.blobs.folder)
    return {
        "builds": builds,
        "phases": [{"name": name, **spent} for name, spent in sum_phases(builds)],
        "cache": {"size": content.size, "blobs": len(content.blobs)},
    }


def list_findings(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"findings", "total"}`` of what `audit-running` writes: the first of them, with what the page shows."""
    found = value["findings"]
    keys = ("rule", "severity", "container", "what", "path")
    return {"findings": [{key: one.get(key) for key in keys} for one in found[:_FINDINGS]], "total": len(found)}
