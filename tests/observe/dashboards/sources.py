"""What each source of metrics really has: names with their labels, asked of the source itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from buildkit.errors import FetchError
from buildkit.gpu.use import GpuHealth, GpuProcessUse, GpuUse
from buildkit.inspection.checkout_watch import build_families
from buildkit.inspection.container_watch import ContainerWatch, WatchSources
from buildkit.inspection.findings_file import finding_families
from buildkit.inspection.gpu_metrics import gpu_families
from buildkit.inspection.live_monitor import LiveMonitor
from buildkit.monitor.container_metrics import container_families
from buildkit.monitor.exposition import parse_samples
from buildkit.monitor.feed import FeedReader
from buildkit.monitor.metrics import MetricFamily, render_metrics
from buildkit.monitor.usage import CgroupUsage, PressureStall
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.scrape import scrape
from tests.monitor.page.samples import make_snapshot, make_view
from tests.ports import take_port
from tests.waiting import wait_until

Known = dict[str, set[str]]
_APP = Path("stages/runtime/app").absolute()
_ASK_SERVICE = """
import json, sys
from unittest.mock import MagicMock
sys.modules["starlette"] = sys.modules["starlette.types"] = MagicMock()  # names of types alone
from prometheus_client import generate_latest
from detector import ModelInfo
from metrics import Metrics
from performance import Performance
from xoe_runtime.drift_profile import make_profile

metrics = Metrics()
names = {}
for collector in metrics.registry._collector_to_names:
    if hasattr(collector, "_labelnames"):
        suffix = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(collector._type, [""])
        names |= {collector._name + one: list(collector._labelnames) for one in suffix}
rows = [{"level": float(number % 97)} for number in range(5000)]
info, data = ModelInfo(name="m", sha256="ab" * 32), "cd" * 32
model = Performance(metrics.registry, info, make_profile(info.name, info.sha256, data, rows))
for row in rows:
    model.observe(0.1, {**row, "confidence": 0.9})
print(json.dumps([names, generate_latest(metrics.registry).decode()]))
"""
_PROXY = """
global
    maxconn 20
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend metrics
    bind 127.0.0.1:{port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    default_backend version
backend version
    server one 127.0.0.1:1
"""
# of the server in nvidia-pytriton 0.7.0, which has them on /metrics before any model; NVIDIA's *Triton Metrics*
TRITON: Mapping[str, set[str]] = {
    f"nv_inference_{name}": {"model", "version"}
    for name in (
        "request_success", "request_failure", "count", "exec_count", "request_duration_us", "queue_duration_us",
    )
}  # fmt: skip


def read_names(text: str) -> Known:
    """Return the names of series in Prometheus' text, with their labels."""
    found: Known = {}
    for sample in parse_samples(text):
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def ask_monitor(folder: Path) -> Known:
    """Return the monitor's series: each part is given something to tell of."""
    stall = PressureStall(some=0.1, full=0.1, total=1.0, full_total=1.0)
    usage = CgroupUsage(
        cpu_seconds=1.0, periods=9, throttled=1, throttled_seconds=1.0, memory=5, oom_kills=1, pids=3, read=1,
        written=1, received=1, sent=1, cpu_pressure=stall, memory_pressure=stall, io_pressure=stall,
    )  # fmt: skip
    snapshot = make_snapshot(1.0)
    views = tuple(make_view(view.container.name, usage=usage, gpus=view.gpus) for view in snapshot.containers[:1])
    health = GpuHealth(name="H200", temperature=41, power=120.5, corrected=2, uncorrected=0, xid=0)
    gpu = GpuUse(
        index=0, uuid="GPU-a", memory=5, total=9, utilisation=0.5, processes=(GpuProcessUse(pid=1),), health=health
    )
    report = {"seconds": 1.0, "timings": {"pack": {"seconds": 1.0}}, "layers": [{"source": "built"}]}
    finding = {"rule": "r", "severity": "high", "container": "c"}
    families: list[MetricFamily] = [
        *container_families(type(snapshot)(time=1.0, containers=views), {}, 10)[0],
        *gpu_families((gpu,), views),
        *build_families({"runtime": (1.0, report)}),
        *finding_families({"findings": [finding], "complete": True, "time": 1.0}),
        *_own_families(folder),
    ]
    return read_names(render_metrics(families))


def _own_families(folder: Path) -> Iterable[MetricFamily]:
    sources = WatchSources(
        find_running=tuple, reader=CgroupReader(), measure_gpus=tuple, clock=time.monotonic, wall=time.time
    )
    own = LiveMonitor(watch=ContainerWatch(sources=sources)).state().families
    return [*(one for one in own if one.name.startswith("xoe_monitor")), *FeedReader(folder).state().families]


def ask_service() -> Known:
    """Return the series of the reference service and of its model, which is given enough requests to tell of drift."""
    path = os.pathsep.join(map(str, (_APP, Path("buildkit").absolute())))  # the second one for xoe_runtime
    argv = (sys.executable, "-c", _ASK_SERVICE)
    said = subprocess.run(argv, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True)
    declared, text = json.loads(said.stdout)
    return {name: set(labels) for name, labels in declared.items()} | read_names(text)


def ask_haproxy(folder: Path) -> Known:
    """Return the series of a HAProxy that has nothing to do."""
    port = take_port()
    file = folder / "haproxy.cfg"
    file.write_text(_PROXY.format(port=port), "utf-8")
    process = subprocess.Popen(("haproxy", "-db", "-f", str(file)), stderr=subprocess.DEVNULL)
    try:
        return read_names(wait_until(lambda: _find_metrics(process, port)))
    finally:
        process.terminate()
        process.wait()


def _find_metrics(process: subprocess.Popen[bytes], port: int) -> str:
    assert process.poll() is None
    try:
        return scrape(f"http://127.0.0.1:{port}/metrics")
    except FetchError:  # it has just started
        return ""
