"""What the development session adds to a container is accepted in an audit, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.audit.described import DescribedContainer, parse_described
from buildkit.audit.running_policy import judge
from buildkit.audit.sighting import NetworkSight, RunningCode
from buildkit.develop.dev_declared import find_added
from buildkit.inspection.declared_containers import NOTHING
from buildkit.running.labels import SERVICE
from buildkit.running.proc import ListeningSocket, MountPoint
from tests.audit.test_running_policy import CLEAN, DECLARED, GIVEN, GOOD, NETWORK

HOME = Path("/cache/dev/0123")
CONTROL = MountPoint(target="/run/buildkit-dev", kind="ext4", options=frozenset({"rw", "nosuid", "nodev"}))
STATE = MountPoint(
    target="/var/lib/buildkit-reload", kind="ext4", options=frozenset({"rw", "nosuid", "nodev", "noexec"})
)
DEBUGGER = ListeningSocket(protocol="tcp", address="0.0.0.0", port=5678)
STARTED = replace(
    CLEAN,
    mounts=(*CLEAN.mounts, CONTROL, STATE),
    networks=(replace(NETWORK, listening=(*NETWORK.listening, DEBUGGER)),),
)


def started(control: str = f"{HOME}/run-ab/control/app", *ports: str) -> DescribedContainer:
    """A container as podman describes it."""
    return parse_described(
        {
            "Id": "1" * 64,
            "State": {"Pid": 7},
            "Config": {"Labels": {SERVICE: "app"}},
            "Mounts": [{"Type": "bind", "Source": control, "Destination": "/run/buildkit-dev"}],
            "NetworkSettings": {"Ports": {port: [{"HostIp": "127.0.0.1"}] for port in ports}},
        }
    )


def found(one: DescribedContainer, seen: object = STARTED) -> set[tuple[str, str]]:
    added = find_added(HOME, one)
    declared = replace(
        DECLARED, exposed=(*DECLARED.exposed, *added.ports), acceptances=(*DECLARED.acceptances, *added.acceptances)
    )
    verdict = judge(seen, GIVEN, GOOD, declared)  # type: ignore[arg-type]
    return {(finding.rule.id, finding.path) for finding in verdict.findings}


def test_container_as_the_session_starts_it_is_clean_with_reasons() -> None:
    one = started(f"{HOME}/run-ab/control/app", "5678/tcp")
    assert found(one) == set()
    assert {acceptance.file for acceptance in find_added(HOME, one).acceptances} == {"nox -s dev"}


def test_whatever_else_is_there_is_a_finding() -> None:
    one = started(f"{HOME}/run-ab/control/app", "5678/tcp")
    other = replace(STATE, target="/srv")
    assert found(one, replace(STARTED, mounts=(*STARTED.mounts, other))) == {("writable-place", "/srv")}
    planted = RunningCode(
        how="program", path="/run/buildkit-dev/x", place="mount", mount="/run/buildkit-dev", writable=True
    )
    assert found(one, replace(STARTED, code=(planted,))) == {("code-from-writable", "run/buildkit-dev/x")}
    socket = NetworkSight(listening=(*NETWORK.listening, replace(DEBUGGER, port=5679)))
    assert {rule for rule, _ in found(one, replace(STARTED, networks=(socket,)))} == {"undeclared-port"}
    assert {rule for rule, _ in found(started())} == {"undeclared-port"}, "without a debugger"


@pytest.mark.parametrize(
    "control",
    ["/tmp/x", f"{HOME}/run-ab/control/data", f"{HOME}/run-ab/control/app/..", "/cache/dev/4567/run-ab/control/app"],
)
def test_container_without_a_reloader_of_this_checkout_is_held_against_services(control: str) -> None:
    one = started(control, "5678/tcp")
    assert find_added(HOME, one) == NOTHING
    assert {rule for rule, _ in found(one)} == {"undeclared-port", "writable-place", "executable-place"}
