"""The stage `monitor` as podman runs it: it serves the file of the reading half, and can do nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from buildkit.monitor.feed import FILE, write_feed
from buildkit.monitor.metrics import OPENMETRICS, render_metrics
from buildkit.monitor.state import MonitorState
from buildkit.services.stack_project import ensure_stack_project
from tests.containers import container_environment
from tests.monitor.test_feed import FIGURES
from tests.monitor.test_metrics import read
from tests.reference.builds import IMPORTED, ROOT, shared_cache
from tests.reference.engine import CONFINED, Podman
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]
LOOK = (
    "import json, os, pathlib\n"
    "status = dict(line.split(':\\t') for line in open('/proc/1/status').read().splitlines() if ':\\t' in line)\n"
    "def writes(path):\n"
    "    try: pathlib.Path(path, 'x').write_text('')\n"
    "    except OSError: return False\n"
    "    return True\n"
    "print(json.dumps([status['CapEff'], status['NoNewPrivs'], status['Uid'].split()[0],\n"
    "    [path for path in ('/', '/feed', '/app', '/tmp', '/dev/shm') if writes(path)],\n"
    "    sorted(os.listdir('/feed')), os.path.exists('/bin/sh')]))"
)


def build(folder: Path, cache: Path) -> str:
    """Build the stage of the project that comes with the package; return the reference of its image."""
    env = os.environ | IMPORTED | {"BUILDKIT_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    argv = (sys.executable, "-m", "buildkit", "build", "monitor", "--json", str(folder / "report.json"))
    done = subprocess.run(argv, cwd=ensure_stack_project(), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads((folder / "report.json").read_text())["image"])


@contextmanager
def running(podman: Podman, image: str, feed: Path) -> Iterator[tuple[str, int]]:
    options = (f"--volume={feed}:/feed:ro", "--publish=127.0.0.1::9469", "--memory=128m", "--pids-limit=128")
    container = podman("run", "--detach", *CONFINED, *options, image).strip()
    try:
        yield container, int(podman("port", container, "9469").strip().rpartition(":")[2])
    finally:
        podman("rm", "--force", "--time=0", container)


def ask(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def test_the_container_serves_the_feed_and_can_do_nothing_else(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    podman = Podman(env=os.environ | container_environment(tmp_path))
    image = build(tmp_path, shared_cache(tmp_path_factory))
    feed = tmp_path / "feed"
    feed.mkdir()
    feed.chmod(0o755)
    state = MonitorState(time=time.time(), families=FIGURES)
    with running(podman, image, feed) as (container, port):
        wait_until(lambda: ask(port, "/healthz")[0] == 503)
        assert "does not run" in ask(port, "/healthz")[1]
        write_feed(feed, state)
        wait_until(lambda: ask(port, "/healthz") == (200, "ok\n"))
        status, text = ask(port, "/metrics", Accept="application/openmetrics-text", Host="monitor:9469")
        found = read(text, OPENMETRICS)
        assert (status, found.pop("xoe_monitor_state_age_seconds")[()] < 30) == (200, True)
        assert found == read(render_metrics(FIGURES, OPENMETRICS), OPENMETRICS)
        check = ("exec", container, "/usr/bin/python3.13", "-m", "buildkit.monitor", "--check")
        podman(*check)
        facts = json.loads(podman("exec", container, "/usr/bin/python3.13", "-c", LOOK))
        assert facts == ["0" * 16, "1", "65532", [], [FILE], False]
        (feed / FILE).unlink()
        wait_until(lambda: ask(port, "/healthz")[0] == 503)
        podman(*check, accept=(1,))
        podman("stop", "--time=30", container)
        (about,) = json.loads(podman("container", "inspect", container))
        assert about["State"]["ExitCode"] == 0
