"""Containers, services and builds to show: an ordinary minute, with one of everything that goes wrong."""

from __future__ import annotations

import math
from typing import Any

from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.rates import UsageRates
from buildkit.monitor.snapshot import ContainerView, GpuShare, Snapshot
from buildkit.monitor.usage import CgroupLimits, CgroupUsage, PressureStall

HOSTILE = "<img src=x onerror=document.title='taken'>\u202egnp"
_MEGA = 1_000_000


def make_view(name: str, cpu: float = 0.25, memory: int = 300, **changes: Any) -> ContainerView:
    """Return a container that uses so many CPUs, and so many MB of a GB."""
    identity = f"{abs(hash(name)):064x}"[:64]
    container = WatchedContainer(
        id=identity,
        name=name,
        pid=1,
        image=identity[::-1],
        image_name=changes.pop("image_name", "localhost/xoe/runtime:latest"),
        health=changes.pop("health", "healthy"),
        restarts=changes.pop("restarts", 0),
    )
    usage = CgroupUsage(
        cpu_seconds=12.0,
        memory=memory * _MEGA,
        idle_cache=0,
        pids=12,
        memory_pressure=PressureStall(some=changes.pop("stall", 0.0), full=0.0, total=0.0),
    )
    values: dict[str, Any] = {
        "container": container,
        "usage": usage,
        "limits": CgroupLimits(cpus=2.0, memory=1000 * _MEGA, pids=256),
        "rates": UsageRates(cpu=cpu, throttled=0.0, read=1e4, written=3.2e5, received=8.1e4, sent=1.3e5),
        "oom_kills": 0,
        "expected": True,
    }
    return ContainerView(**(values | changes))


def make_snapshot(time: float, second: int = 0) -> Snapshot:
    """Return a look: six containers, of which one was killed, one is throttled, one differs and one is ill."""
    wave = math.sin(second / 12)
    throttled = UsageRates(cpu=0.5, throttled=0.34, read=0.0, written=0.0, received=2e4, sent=4e3)
    gpu = GpuShare(index=0, uuid="GPU-8c1d2f4e", memory=11_200 * _MEGA, utilisation=0.62 + wave / 5)
    views = (
        make_view("app", 1.31 + wave / 3, 640, gpus=(gpu,)),
        make_view("postgres", 0.08, 210, image_name="localhost/xoe/postgres:latest", health=""),
        make_view("redis", 0.03 + abs(wave) / 50, 31, image_name="localhost/xoe/redis:latest"),
        make_view("worker", 0.5, 955 + int(wave * 20), rates=throttled, oom_kills=2, restarts=2, stall=0.12),
        make_view("app-candidate", 0.4 - wave / 9, 520, expected=False, health="unhealthy"),
        make_view(HOSTILE, 0.11, 90, image_name="example.com/<b>bold</b>:1", expected=None),
    )
    return Snapshot(time=time, containers=views)


GPUS = (
    {"index": 0, "uuid": "GPU-8c1d2f4e", "name": "NVIDIA H200", "utilisation": 0.66, "memory": 11.2e9, "total": 141e9,
     "temperature": 61, "power": 402.0, "corrected": 4, "uncorrected": 0, "xid": None, "problem": ""},
    {"index": 1, "uuid": "GPU-77aa01b2", "name": "NVIDIA H200", "utilisation": 0.02, "memory": 0.6e9, "total": 141e9,
     "temperature": 88, "power": 93.0, "corrected": 0, "uncorrected": 3, "xid": 79, "problem": ""},
)  # fmt: skip


def make_services(time: float, second: int = 0) -> dict[str, Any]:
    """Return what two services and a model in two versions do."""
    wave = math.sin(second / 20)
    drift = [
        {"signal": "level", "psi": 0.04 + abs(wave) / 20, "ks": 0.05, "samples": 5000, "samples_needed": 500},
        {"signal": "speech", "psi": 0.27, "ks": 0.19, "samples": 5000, "samples_needed": 500},
        {"signal": "rate", "psi": None, "ks": None, "samples": 120, "samples_needed": 500},
    ]
    models = [
        {"model": "silero-vad", "version": version, "requests": requests, "errors": 0.0, "mean": None, "p50": 0.031,
         "p95": 0.072, "confidence": 0.91, "drift": drift if requests > 9 else []}
        for version, requests in (("1f0a22c4d5e6", 38.2), ("9b41c07de812", 4.1))
    ]  # fmt: skip
    app = {"name": "app", "problem": None, "ready": True, "requests": 42.3 + wave * 8, "errors": 0.0, "refused": 0.031,
           "in_flight": 6, "p50": 0.038, "p95": 0.081 + wave / 90, "p99": 0.143, "models": models}  # fmt: skip
    nothing = dict.fromkeys(("ready", "requests", "errors", "refused", "in_flight", "p50", "p95", "p99"))
    gone = {
        "name": "app-candidate",
        "problem": "http://127.0.0.1:8001/metrics: Connection refused",
        **nothing,
        "models": [],
    }
    return {"time": time, "services": [app, gone]}


def make_builds(time: float) -> dict[str, Any]:
    """Return the last builds of two stages."""
    timings = {"resolve": 0.2, "download": 3.1, "pack": 6.4, "compile": 2.2, "deliver": 1.1, "push": 4.0}
    builds = [
        {
            "stage": "runtime" if number % 3 else "development",
            "started": time - 900 * (9 - number),
            "seconds": sum(timings.values()) / (1 + number % 4),
            "built": 9 - number,
            "reused": 12 + number,
            "bytes": {
                "fetched": 41_000_000 // (1 + number),
                "built": 1,
                "imported": 1,
                "pushed": number % 2 * 7_400_000,
            },
            "timings": {
                name: {"seconds": spent / (1 + number % 4), "cpu": spent / 2, "read": 1, "written": 1}
                for name, spent in timings.items()
            },
        }
        for number in range(8)
    ]
    phases = [
        {"name": name, "seconds": spent * 4.2} for name, spent in sorted(timings.items(), key=lambda one: -one[1])
    ]
    return {"builds": builds, "phases": phases, "cache": {"size": 3_400_000_000, "blobs": 212}}


_FOUND = [
    {
        "rule": "RUN004",
        "severity": "high",
        "container": "worker",
        "what": "writes /tmp/x and runs it",
        "path": "/tmp/x",
    },
    {
        "rule": "RUN001",
        "severity": "medium",
        "container": HOSTILE,
        "what": "its image is not the registry's signed one",
    },
]
FINDINGS = {"findings": _FOUND, "total": len(_FOUND)}
