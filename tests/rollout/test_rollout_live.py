"""Versions and replicas in real containers: traffic is shifted, a bad candidate aborted, and load followed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.cli.rollout import watch_rollout
from buildkit.errors import BuildError, DefinitionError
from buildkit.events import Note, ignore_event
from buildkit.rollout.decide import RolloutAction
from buildkit.running.environment import RunningEnvironment
from buildkit.services.host_limits import HostCapacity
from buildkit.services.labels import environment_labels
from buildkit.services.proxy import LiveProxy
from buildkit.services.replicas import choose_replicas, forget_replicas
from buildkit.services.rollout import RunningRollout, choose_service, find_rollout
from buildkit.services.rollout_files import find_proxies, load_state
from buildkit.services.scaler import Scaler
from buildkit.services.start import StartOptions, check_checkout, start_environment
from buildkit.services.stop import stop_environment
from buildkit.services.wait import wait_healthy
from buildkit.tools.podman_objects import list_containers
from tests.imagestore.hosts import StorageHost
from tests.rollout.conftest import REPLICA, MakeRollout
from tests.rollout.proxies import Load, ask_users
from tests.services.addresses import address_of

pytestmark = pytest.mark.tools
OPTIONS = StartOptions(folder=Path(__file__).parent, patience=20.0)
TEXT = f"""
[services.app]
stage = "server"
command = {json.dumps(REPLICA)}
ports = ["0:8000"]
env = {{ VERSION = "old", ERRORS = "0" }}
[services.app.proxy]
probe = "/readyz"
[services.app.rollout]
by = "header:X-User"
split = {{ old = 50, new = 50 }}
control = "old"
promote = {{ after = "1s", when = "error_rate < 2% and p95 < 10 * control", steps = [50, 80, 100] }}
[services.app.rollout.versions.old]
[services.app.rollout.versions.new]
env = {{ VERSION = "new", ERRORS = "ERRORS_OF_NEW" }}
[environments.t]
services = ["app"]
"""
SCALED = f"""
[services.app]
stage = "server"
command = {json.dumps(REPLICA)}
ports = ["0:8000"]
env = {{ VERSION = "only", ERRORS = "0" }}
proxy = {{ probe = "/readyz", at-once = 4 }}
[services.app.scale]
min = 1
max = 3
target = {{ in-flight = 2 }}
down = {{ window = 0, percent = 100, period = 1 }}
[environments.t]
services = ["app"]
"""
USERS = [f"user-{number}" for number in range(8)]


def port_of(environment: RunningEnvironment) -> int:
    return int(address_of(environment, "app").rpartition(":")[2])


def containers(host: StorageHost) -> set[str]:
    listed = host.tool("podman", "ps", "--format", "{{.Names}}").split()
    return {name.partition("-t-")[2] for name in listed}


def wait_for_answers(rollout: RunningRollout, load: Load, action: RolloutAction) -> str:
    """Step until the action follows; return the reason."""
    end = time.monotonic() + 30
    while True:
        load.wait_for_answers(20)
        _, decision = rollout.step()
        if decision.action is action:
            return decision.reason
        assert decision.action is RolloutAction.HOLD, decision
        assert time.monotonic() < end, decision


@pytest.fixture
def versions(make: MakeRollout) -> Iterator[RunningEnvironment]:
    environment = choose_replicas(make(TEXT.replace("ERRORS_OF_NEW", "0")))
    try:
        start_environment(environment, OPTIONS, ignore_event)
        yield environment
    finally:
        stop_environment(environment, ignore_event)


def test_a_rollout_goes_forward_by_figures_and_back_at_once(
    host: StorageHost, versions: RunningEnvironment, make: MakeRollout
) -> None:
    assert containers(host) == {"app", "app-old-1", "app-new-1"}
    rollout, port = find_rollout(versions, ""), port_of(versions)
    images = host.tool("podman", "images", "--all", "--quiet")
    with Load(port, clients=8) as load:
        reason = wait_for_answers(rollout, load, RolloutAction.PROMOTE)
        assert "error_rate 0 %" in reason
        assert rollout.load().share("new") == 800
        load.wait_for_answers(5)
    assert (load.broken, {status for status, _ in load.answers}) == ([], {200})
    assert {version for _, version in load.answers} == {"old", "new"}
    status = {one.version: one for one in rollout.status()}
    assert (status["new"].share, status["new"].healthy, status["old"].role) == (80.0, 1, "control")
    with pytest.raises(BuildError, match="runs already, started in"):
        check_checkout(versions, list_containers(environment_labels(versions)), OPTIONS.folder / "another checkout")
    rollout.promote(1000)
    assert watch_rollout(rollout, 1, as_json=False) == 0  # it has its last step already
    assert set(ask_users(port, USERS)) == {"new"}
    proxy = versions.get("app").container.name
    host.tool("podman", "restart", "--time", "0", proxy)  # what was told while it ran is lost
    wait_healthy(versions.get("app"), 20)
    assert set(ask_users(port, USERS)) == {"new"}
    rollout.back()
    assert set(ask_users(port, USERS)) == {"old"}
    assert watch_rollout(rollout, 1, as_json=False) == 1
    assert rollout.judge().reason.startswith("the candidate was taken back")
    assert host.tool("podman", "images", "--all", "--quiet") == images
    assert [entry.action for entry in rollout.load().history] == ["declared", "promoted", "promoted", "back"]
    started = start_environment(choose_replicas(make(TEXT.replace("ERRORS_OF_NEW", "0"))), OPTIONS, ignore_event)
    assert set(started.steps.values()) == {"unchanged"}
    assert set(ask_users(port, USERS)) == {"old"}


def test_a_candidate_with_errors_is_aborted_and_one_without_traffic_held(make: MakeRollout) -> None:
    environment = choose_replicas(make(TEXT.replace("ERRORS_OF_NEW", "15")))
    try:
        start_environment(environment, OPTIONS, ignore_event)
        rollout = find_rollout(environment, "app")
        assert rollout.step()[1].reason == "no request yet: no data is never good"
        with Load(port_of(environment), clients=8) as load:
            reason = wait_for_answers(rollout, load, RolloutAction.ABORT)
        assert reason.startswith("error_rate ")
        assert reason.endswith("that is no chance")
        assert set(ask_users(port_of(environment), USERS)) == {"old"}
        assert rollout.load().history[-1].reason == f"aborted: {reason}"
        with pytest.raises(DefinitionError, match="app has no `scale`"):
            choose_service({}, "app", environment, "scale")
    finally:
        stop_environment(environment, ignore_event)
        forget_replicas(environment)


def make_scaler(environment: RunningEnvironment, notes: list[str], memory: int = 1 << 30) -> Scaler:
    service = environment.get("app")

    def emit(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    return Scaler(
        environment=environment,
        service=service,
        options=OPTIONS,
        emit=emit,
        proxy=LiveProxy.of(service),
        capacity=HostCapacity(memory=memory, cpus=64),
    )


def test_replicas_follow_the_load_without_a_failed_request(host: StorageHost, make: MakeRollout) -> None:
    environment = make(SCALED)
    notes: list[str] = []
    try:
        start_environment(choose_replicas(environment), OPTIONS, ignore_event)
        scaler, port = make_scaler(environment, notes), port_of(environment)
        assert containers(host) == {"app", "app-1"}
        with Load(port, clients=8) as load:
            load.wait_for_answers(8)
            (step,) = make_scaler(environment, notes, 192 << 20).round(3, 0.1)
            assert (step.after, step.limit[:32]) == (2, "this host has not enough memory "), (step, notes)
            assert containers(host) == {"app", "app-1", "app-2"}
            (step,) = scaler.round(3, 0.1)
            assert (step.before, step.after) == (2, 3)
            assert step.wanted in (3, 4)  # on a busy machine some of the eight clients are between two requests
            host.tool("podman", "kill", environment.get("app-2").container.name)
            (step,) = make_scaler(environment, notes).round(3, 0.1)  # a scaler that has just begun
            assert containers(host) == {"app", "app-1", "app-2", "app-3"}
            load.wait_for_answers(50)
            answered = sum(load.answers.values())
        assert (load.broken, set(load.answers)) == ([], {(200, "only")}), answered
        time.sleep(1.1)
        with Load(port, clients=1) as load:
            for _ in range(3):
                (step,) = scaler.round(3, 0.1)
                time.sleep(1.1)
        assert (load.broken, set(load.answers)) == ([], {(200, "only")})
        assert containers(host) == {"app", "app-1"}
        assert load_state(environment.get("app")).running("only") == (1,)
        host.tool("podman", "stop", "--time", "0", environment.get("app").container.name)
        with pytest.raises(BuildError, match=r"the proxy .*-t-app does not answer"):
            scaler.round(1, 0)
        assert containers(host) == {"app-1"}
        start_environment(choose_replicas(environment), OPTIONS, ignore_event)
        assert scaler.round(1, 0)[0].after == 1
    finally:
        stop_environment(environment, ignore_event)
        forget_replicas(environment)
    assert notes == []
    assert [proxy.name for proxy in find_proxies(environment)] == ["app"]
