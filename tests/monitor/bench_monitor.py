"""Measure what a scrape costs: ``python -m tests.monitor.bench_monitor [FOLDER]`` prints ms of CPU for 50 containers.

A server of this process is asked over one connection; the CPU time of the client's thread is
subtracted. Groups are as in ``bench_top``: made-up files, or with a name real ones.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from buildkit.inspection.container_watch import ContainerWatch, WatchSources
from buildkit.inspection.live_monitor import LiveMonitor
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.exporter import MonitorServer
from buildkit.monitor.metrics import render_metrics
from buildkit.tools.cgroups import CgroupReader
from tests.monitor.bench_top import IDS, real_groups
from tests.monitor.cgrouphosts import CgroupHost

_SCRAPES = 100


def measure(reader: CgroupReader) -> str:
    """Return ms of CPU: of a look with its metrics, and of a scrape whole."""
    found = tuple(
        WatchedContainer(id=i, name=f"service-{pid}", pid=pid, image="", image_name=f"localhost/p/s{pid}:latest")
        for pid, i in IDS.items()
    )
    sources = WatchSources(
        find_running=lambda: found, reader=reader, measure_gpus=tuple, clock=time.monotonic, wall=time.time
    )
    ticks = iter(range(1_000_000))
    monitor = LiveMonitor(watch=ContainerWatch(sources=sources), clock=lambda: next(ticks))
    size = len(render_metrics(monitor.state().families))
    look = _cpu(monitor.watch.look)
    text = _cpu(lambda: render_metrics(monitor.state().families))
    return f"look {look:.1f} ms, with its text {text:.1f} ms, scrape {_scrape(monitor):.1f} ms, {size / 1000:.0f} kB"


def _cpu(action: object) -> float:
    before = time.thread_time()
    for _ in range(_SCRAPES):
        action()  # type: ignore[operator]
    return (time.thread_time() - before) / _SCRAPES * 1000


def _scrape(monitor: LiveMonitor) -> float:
    server = MonitorServer(("127.0.0.1", 0), monitor.state, {})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = HTTPConnection("127.0.0.1", server.port)

    def ask() -> None:
        connection.request("GET", "/metrics")
        connection.getresponse().read()

    before = time.process_time()
    client = _cpu(ask)
    whole = (time.process_time() - before) / _SCRAPES * 1000
    connection.close()
    server.shutdown()
    thread.join()
    server.server_close()
    return whole - client


def main() -> None:
    """Print the figures."""
    gc.set_threshold(50_000, *gc.get_threshold()[1:])  # as sessions do
    with tempfile.TemporaryDirectory(prefix="bk-") as folder:
        if name := "".join(sys.argv[1:]):
            with real_groups(Path(folder), name) as reader:
                print(f"this host: {measure(reader)}")
            return
        for kind in ("v1", "v2", "hybrid"):
            host = CgroupHost(Path(folder, kind), kind)
            for pid, ident in IDS.items():
                host.add(pid, f"/libpod_parent/libpod-{ident}")
            print(f"{kind}: {measure(CgroupReader(host.proc))}")


if __name__ == "__main__":
    main()
