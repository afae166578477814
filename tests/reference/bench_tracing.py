"""What tracing costs the service: ``python -m tests.reference.bench_tracing CLIP [ROUNDS]``.

Services without traces, with a tenth of them recorded, and with all, run side by side, each a process; the same clients
ask one after the other in short slices, in an order that turns. CPU time of a service's process a request is what other
work on the machine changes least. It needs the libraries of ci/locks/application.txt and SPEECH_MODEL.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

from tests.otlpcollector import serve_collector
from tests.ports import take_port

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "stages/runtime/app"
CLIENTS, SLICE = 4, 8  # requests


class Process:
    def __init__(self, stack: ExitStack, **env: str) -> None:
        self.port = take_port()
        own = {"SPEECH_HOST": "127.0.0.1", "SPEECH_PORT": str(self.port), "SPEECH_ACCESS_LOG": "false", **env}
        argv = (sys.executable, "-m", "main")
        path = {"PYTHONPATH": str(ROOT / "buildkit")}
        self.child = subprocess.Popen(argv, cwd=APP, env=os.environ | own | path, stdout=subprocess.DEVNULL)
        stack.callback(self.child.kill)
        self.rates: list[float] = []
        self.costs: list[float] = []

    def ask(self, method: str, path: str, body: bytes | None = None) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "audio/wav"})
            answer = connection.getresponse()
            answer.read()
        except ConnectionError:
            return 0
        else:
            return answer.status
        finally:
            connection.close()

    def cpu(self) -> float:
        """Seconds of all threads, which stay; to the nanosecond, unlike /proc/PID/stat."""
        tasks = Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def run(self, body: bytes) -> None:
        cpu, begun = self.cpu(), time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert set(pool.map(lambda _: self.ask("POST", "/v1/speech", body), range(SLICE))) == {200}
        self.rates.append(SLICE / (time.monotonic() - begun))
        self.costs.append((self.cpu() - cpu) / SLICE)


def main(clip: Path, rounds: int) -> None:
    body = clip.read_bytes()
    with serve_collector() as collector, ExitStack() as stack:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        services = {
            "off": Process(stack),
            "a tenth": Process(stack, **on),
            "all": Process(stack, **on, OTEL_TRACES_SAMPLER="always_on"),
        }
        for one in services.values():
            while one.ask("GET", "/readyz") != 200:
                time.sleep(0.1)
        for number in range(rounds + 1):
            names = list(services)[number % 3 :] + list(services)[: number % 3]
            for name in names:
                services[name].run(body)
        print(f"{clip.name}: {rounds} rounds of {SLICE} requests, {CLIENTS} clients, load {os.getloadavg()[0]:.1f}")
        off = services["off"]
        for name, one in services.items():
            rate = statistics.harmonic_mean(one.rates[1:]) / statistics.harmonic_mean(off.rates[1:])
            cost = sum(one.costs[1:]) / sum(off.costs[1:])
            rss = Path(f"/proc/{one.child.pid}/status").read_text().split("VmRSS:")[1].split()[0]
            per = statistics.mean(one.costs[1:]) * 1e3
            print(f"{name:8} throughput {rate:.3f}, CPU {cost:.3f} ({per:.2f} ms a request), {int(rss) // 1024} MiB")
        print(f"{len(collector.spans)} spans received")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100)
