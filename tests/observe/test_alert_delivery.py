"""From a threshold to a webhook, with Prometheus and Alertmanager as Debian has them, and our configuration."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buildkit.declare.observe_settings import Email, Observe, Webhook
from buildkit.observe.configuration import (
    StackPace,
    load_rules,
    render_alertmanager,
    render_prometheus,
    render_thresholds,
)
from buildkit.observe.targets import ScrapeTarget
from tests.observe.serving import SeriesPage, serving
from tests.observe.webhook import answers, ask, receiving, running
from tests.ports import take_port
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
OF_OTHERS = re.compile(r"\b(?:prometheus|alertmanager|node)_[a-z0-9_A-Z]+")
pytestmark = pytest.mark.tools
PACE = StackPace(ask="500ms", patience="500ms", gather="1s", gather_more="1s", again="1h")
EVERYTHING = Observe(
    webhook=Webhook(url_secret="hook", token_secret="token"),
    email=Email(to="a@b.c", sender="d@e.f", smarthost="m.x:587", username="u", password_secret="mail"),
    heartbeat_secret="beat",
)


def write(folder: Path, observe: Observe, page: SeriesPage, ports: dict[str, int]) -> None:
    """The files of the stack, for programs on this host."""
    target = ScrapeTarget(address=page.address, path="/metrics", service="app", instance="app-1")
    places = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    files = {
        "prometheus.yml": render_prometheus((target,), ("p", "production"), PACE, places),
        "thresholds.yml": render_thresholds(observe),
        "alertmanager.yml": render_alertmanager(observe, PACE, str(folder)),
        **dict(load_rules()),
    }
    for name, text in files.items():
        # what holds for minutes in production holds for no time here
        (folder / name).write_text(re.sub(r"^ *(for|keep_firing_for): .*\n", "", text, flags=re.MULTILINE))


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    argv = (
        "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn",
        f"--web.listen-address=127.0.0.1:{port}", "--rules.alert.resend-delay=1s",
    )  # fmt: skip
    with running(argv, folder, f"{url}/-/ready"):
        yield url


@contextmanager
def alertmanager(folder: Path, port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    argv = (
        "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=told", "--log.level=warn",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    )  # fmt: skip
    with running(argv, folder, f"{url}/-/ready"):
        yield url


@contextmanager
def node_exporter(folder: Path, port: int) -> Iterator[None]:
    """Run it with the arguments of its stage."""
    stage = ROOT / "buildkit/observe/project/stages/node-exporter/stage.toml"
    argv = tomllib.loads(stage.read_text())["config"]["entrypoint"]
    own = (f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn")
    with running((*argv, *own), folder, f"http://127.0.0.1:{port}/-/healthy"):
        yield


def firing(url: str) -> set[str]:
    found: list[dict[str, Any]] = ask(f"{url}/api/v1/alerts")["data"]["alerts"]
    return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}


def test_alerts_reach_a_webhook_and_an_outage_of_alertmanager_loses_none(tmp_path: Path) -> None:
    ports = {"prometheus": take_port(), "alertmanager": take_port(), "node-exporter": take_port()}
    with serving() as page, receiving() as receiver, node_exporter(tmp_path, ports["node-exporter"]):
        observe = Observe(webhook=Webhook(url=f"http://127.0.0.1:{receiver.port}/x", token_secret="token"))
        (tmp_path / "token").write_text("abc")
        page.series = {"speech_ready": 1}
        write(tmp_path, observe, page, ports)
        with prometheus(tmp_path, ports["prometheus"]) as url:
            with alertmanager(tmp_path, ports["alertmanager"]):
                wait_until(lambda: page.asked > 1)
                assert not receiver.told("ServiceNotReady")
                page.series = {"speech_ready": 0}
                wait_until(lambda: receiver.told("ServiceNotReady"))
                [alert] = [one for one in receiver.alerts if one["labels"]["alertname"] == "ServiceNotReady"]
                known = {"service": "app", "instance": "app-1", "environment": "production", "project": "p"}
                assert known.items() <= alert["labels"].items()
                assert alert["annotations"]["summary"].startswith("app-1 runs and is not ready")
                assert receiver.tokens == {"Bearer abc"}
                page.series = {"speech_ready": 1}
                wait_until(lambda: receiver.told("ServiceNotReady", "resolved"))
            page.series = {"speech_ready": 1, "xoe_gpu_temperature_celsius": 99}
            wait_until(lambda: "GpuHot" in firing(url))  # while nobody is there to be told
            wait_until(lambda: "AlertmanagerUnreachable" in firing(url))
            assert not receiver.told("GpuHot")
            with alertmanager(tmp_path, ports["alertmanager"]):
                wait_until(lambda: receiver.told("GpuHot") and receiver.told("AlertmanagerUnreachable"))
            assert not receiver.told("Watchdog")
            names = set(ask(f"{url}/api/v1/label/__name__/values")["data"])
            assert {one for text in dict(load_rules()).values() for one in OF_OTHERS.findall(text)} <= names
            before = len([one for one in receiver.alerts if one["labels"]["alertname"] == "GpuHot"])
            with alertmanager(tmp_path, ports["alertmanager"]) as told:  # it knows what it said
                wait_until(lambda: any(one["labels"]["alertname"] == "GpuHot" for one in ask(f"{told}/api/v2/alerts")))
            assert len([one for one in receiver.alerts if one["labels"]["alertname"] == "GpuHot"]) == before


def test_a_service_that_is_down_is_told_and_is_not_slow_too(tmp_path: Path) -> None:
    ports = {"prometheus": take_port(), "alertmanager": take_port()}
    with serving() as page, receiving() as receiver:
        write(tmp_path, Observe(webhook=Webhook(url=f"http://127.0.0.1:{receiver.port}/x")), page, ports)
        page.status = 500
        with prometheus(tmp_path, ports["prometheus"]) as url, alertmanager(tmp_path, ports["alertmanager"]):
            wait_until(lambda: receiver.told("TargetDown"))
            [down] = [one for one in receiver.alerts if one["labels"]["alertname"] == "TargetDown"]
            assert down["labels"]["instance"] == "app-1"
            assert answers(f"{url}/-/healthy")


@pytest.mark.parametrize("observe", [Observe(), EVERYTHING], ids=["nobody", "everybody"])
def test_prometheus_and_alertmanager_take_the_configuration(tmp_path: Path, observe: Observe) -> None:
    with serving() as page:
        write(tmp_path, observe, page, {"alertmanager": 9093})
    for name in ("hook", "token", "mail", "beat"):
        (tmp_path / name).write_text("x")
    subprocess.run(("promtool", "check", "config", "prometheus.yml"), cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "alertmanager.yml").read_text()
    if observe is EVERYTHING:  # Alertmanager 0.25 of Debian 12 reads no addresses from files; the stack's 0.28 does
        text = text.replace("url_file: ", "url: http://x").replace(f"{tmp_path}", "")
    (tmp_path / "alertmanager.yml").write_text(text)
    subprocess.run(("amtool", "check-config", "alertmanager.yml"), cwd=tmp_path, check=True, capture_output=True)
