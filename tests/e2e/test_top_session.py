"""`nox -s top` of a real container: its figures are those of the kernel, read by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from buildkit.monitor.feed import FeedReader
from buildkit.monitor.metrics import render_metrics
from tests.e2e.tinyproject import Tiny, one_error
from tests.monitor.test_metrics import read
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
BUSY = "trap 'exit 0' TERM\nwhile :; do :; done\n"
GREED = "(a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done); exit 0"
SETTINGS = '\n[running]\nmemory = "64m"\npids = 32\ncpus = 0.1\n'


def by_hand(ident: str, *names: str) -> str:
    """The first file with one of these names in a group of the container."""
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        if ident in folder and "conmon" not in folder:
            for name in names:
                if name in files:
                    return (Path(folder) / name).read_text()
    raise AssertionError(f"{ident} has no {names}")


def test_top_shows_what_the_kernel_says_counts_kills_and_ends(tiny: Tiny) -> None:
    tiny.write("stages/app/app/main.sh", BUSY)
    with (tiny.project / "stages/app/stage.toml").open("a") as file:
        file.write(SETTINGS)
    tiny.git("add", ".")
    assert '"containers": []' in tiny.run("top", "--json", "--interval", "0.1").text
    tiny.build("app")
    started = tiny.run("run-app", "--no-build", "--detach")
    assert started.code == 0, started.text
    output = tiny.folder / "lines"
    with output.open("w") as out, (tiny.folder / "errors").open("w") as errors:
        child = subprocess.Popen(
            tiny.argv("top", "--stream", "--interval", "0.3"), cwd=tiny.folder, env=tiny.env, stdout=out,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: any(one["cpu"]["throttled"] for look in looks(output) for one in look["containers"]))
        (found,) = looks(output)[-1]["containers"]
        check(tiny, found)
        check_cpu(looks(output))
        check_exporter(tiny, found)
        tiny.tool("podman", "exec", found["name"], "/bin/sh", "-c", GREED)
        wait_until(lambda: looks(output)[-1]["containers"][0]["memory"]["oom_kills"] > 0)
        tiny.tool("podman", "rm", "--force", "--time", "0", found["name"])
        wait_until(lambda: looks(output)[-1]["containers"] == [])
        assert {look["containers"][0]["state"] for look in looks(output) if look["containers"]} <= {"running", "gone"}
        os.killpg(child.pid, signal.SIGINT)
        said = (child.wait(timeout=60), (tiny.folder / "errors").read_text())
        assert said[0] == 0, said
        assert "Traceback" not in said[1]
    finally:
        child.kill()
        child.wait()
        tiny.tool("podman", "rm", "--all", "--force", "--time", "0")  # it would be busy for ever


def looks(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines() if line.endswith("}")]


def check(tiny: Tiny, found: dict[str, Any]) -> None:
    ident = found["id"]
    assert "sha256:" + found["image"]["id"] == tiny.images()["localhost/tiny/app:latest"]
    assert found["image"]["expected"] is True
    assert found["memory"]["limit"] == int(by_hand(ident, "memory.limit_in_bytes", "memory.max")) == 64 << 20
    assert found["pids"]["limit"] == int(by_hand(ident, "pids.max")) == 32
    assert 1 <= found["pids"]["used"] <= int(by_hand(ident, "pids.peak", "pids.max"))
    assert found["cpu"]["limit"] == 0.1
    hand = by_hand(ident, "cpuacct.usage", "cpu.stat").split()
    seconds = int(hand[0]) / 1e9 if hand[0].isdecimal() else int(hand[1]) / 1e6
    assert -0.001 < seconds - found["cpu"]["seconds"] < 2, "it goes on at a tenth of a CPU, and v2 counts microseconds"
    assert 0 < found["memory"]["used"] <= 64 << 20


def check_exporter(tiny: Tiny, found: dict[str, Any]) -> None:
    """The session `monitor` tells the same, over HTTP and through a feed."""
    feed = tiny.folder / "feed"
    with started(tiny, "--listen", "127.0.0.1:0") as address, started(tiny, "--feed", str(feed)):
        with urlopen(address, timeout=60) as answer:
            series = read(answer.read().decode())
        label = (("image", "localhost/tiny/app:latest"), ("name", found["name"]))
        assert series["container_spec_memory_limit_bytes"][label] == 64 << 20
        assert series["container_cpu_cfs_throttled_periods_total"][label] > 0
        (info,) = (dict(labels) for labels in series["xoe_container_info"])
        assert (info["stage"], info["project"], info["current"]) == ("app", "tiny", "true")
        layers = {dict(labels)["outcome"]: value for labels, value in series["xoe_build_layers"].items()}
        assert layers["built"] > 0
        assert series["xoe_build_duration_seconds"][("phase", "all"), ("stage", "app")] > 0
        port = address.rpartition(":")[2].partition("/")[0]
        assert "Address already in use" in one_error(tiny.run("monitor", "--listen", f"127.0.0.1:{port}"), 2)
        assert "another monitor writes there" in one_error(tiny.run("monitor", "--feed", str(feed)), 2)
        served = FeedReader(feed).state()
        assert served.problem == ""
        assert read(render_metrics(served.families)).keys() >= series.keys()
    assert not (feed / "state.json").exists(), "a reader knows at once that it has ended"


@contextmanager
def started(tiny: Tiny, *arguments: str) -> Iterator[str]:
    """A monitor, ended by SIGTERM; yields the line that it prints."""
    with subprocess.Popen(
        tiny.argv("monitor", *arguments), cwd=tiny.folder, env=tiny.env, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as child:  # fmt: skip
        assert child.stdout
        try:
            yield child.stdout.readline().strip()
        finally:
            os.killpg(child.pid, signal.SIGTERM)
        assert child.wait(timeout=60) == 0


def check_cpu(seen: list[dict[str, Any]]) -> None:
    """A busy loop may use a tenth of a CPU; a look on a busy host is late by a while."""
    first, last = ((look["time"], look["containers"][0]["cpu"]["seconds"]) for look in (seen[0], seen[-1]))
    assert last[1] - first[1] <= 0.1 * (last[0] - first[0]) + 0.2
    rates = [look["containers"][0]["cpu"]["used"] for look in seen[1:]]
    assert max(rates) > 0


def test_wrong_options_are_errors(tiny: Tiny) -> None:
    assert "must be seconds from 0.1 to 3600, not '0'" in one_error(tiny.run("top", "--interval", "0"), 2)
    assert "must be seconds" in one_error(tiny.run("top", "--interval", "nan"), 2)
    assert "not allowed with" in one_error(tiny.run("top", "--json", "--stream"), 2)
    assert "must be an address of this host" in one_error(tiny.run("monitor", "--listen", "9469"), 2)
    assert "--push needs a collector" in one_error(tiny.run("monitor", "--push"), 2)
    assert "not allowed with" in one_error(tiny.run("monitor", "--print", "--feed", "x"), 2)
