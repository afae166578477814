"""What the development session adds to a container is accepted in an audit, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.audit.described import DescribedContainer, parse_described
from buildkit.audit.running_policy import judge
from buildkit.audit.sighting import NetworkSight, RunningCode
from buildkit.develop.adapt import RELOADER_FOLDER
from buildkit.develop.dev_declared import find_added
from buildkit.inspection.declared_containers import NOTHING
from buildkit.running.labels import SERVICE
from buildkit.running.proc import ListeningSocket, MountPoint
from tests.audit.test_running_policy import CLEAN, DECLARED, GIVEN, GOOD, NETWORK

HOME, PROJECT = Path("/cache/dev/0123"), Path("/work/project")
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
    """The container of an application, as podman describes it."""
    run = Path(control).parents[1]
    mounts = {
        "/run/buildkit-dev": control,
        "/app": f"{run}/staged/runtime/app",
        "/opt/buildkit-reload": RELOADER_FOLDER,
    }
    return described("app", mounts, *ports)


def described(service: str, mounts: dict[str, object], *ports: str) -> DescribedContainer:
    return parse_described(
        {
            "Id": "1" * 64,
            "State": {"Pid": 7},
            "Config": {"Labels": {SERVICE: service}},
            "Mounts": [{"Type": "bind", "Source": str(mounts[one]), "Destination": one} for one in mounts],
            "NetworkSettings": {"Ports": {port: [{"HostIp": "127.0.0.1"}] for port in ports}},
        }
    )


def found(one: DescribedContainer, seen: object = STARTED) -> set[tuple[str, str]]:
    added = find_added(HOME, PROJECT, one)
    declared = replace(
        DECLARED,
        exposed=(*DECLARED.exposed, *added.ports),
        sources=added.sources,
        acceptances=(*DECLARED.acceptances, *added.acceptances),
    )
    given = replace(GIVEN, sources=one.flags.sources)
    verdict = judge(seen, given, GOOD, declared)  # type: ignore[arg-type]
    return {(finding.rule.id, finding.path) for finding in verdict.findings}


def test_container_as_the_session_starts_it_is_clean_with_reasons() -> None:
    one = started(f"{HOME}/run-ab/control/app", "5678/tcp")
    assert found(one) == set()
    assert {acceptance.file for acceptance in find_added(HOME, PROJECT, one).acceptances} == {"nox -s dev"}


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
    added = find_added(HOME, PROJECT, one)
    assert (added.ports, added.acceptances) == ((), ())
    assert found(one) >= {
        ("writable-place", "/run/buildkit-dev"),
        ("executable-place", "/run/buildkit-dev"),
        ("undeclared-mount", "opt/buildkit-reload"),
    }
    assert "undeclared-port" in {rule for rule, _ in found(one)}


def test_nothing_is_added_to_a_container_without_files_of_a_run() -> None:
    assert find_added(HOME, PROJECT, described("app", {"/app": "/srv/app"})) == NOTHING


BOOKS = MountPoint(target="/notebooks", kind="ext4", options=frozenset({"rw", "nosuid", "nodev"}))
NOTEBOOKS = replace(
    CLEAN,
    mounts=(*CLEAN.mounts, BOOKS),
    networks=(replace(NETWORK, listening=(replace(DEBUGGER, port=8888),)),),
)
MOUNTS = {
    "/app": f"{HOME}/run-ab/staged/runtime/app",
    "/run/jupyter-token": f"{HOME}/run-ab/jupyter-token",
    "/notebooks": f"{PROJECT}/notebooks",
}


def test_jupyter_as_the_session_starts_it_is_clean() -> None:
    assert found(described("jupyter", MOUNTS, "8888/tcp"), NOTEBOOKS) == set()


@pytest.mark.parametrize(
    ("service", "more"),
    [
        ("app", {}),
        ("jupyter", {"/run/jupyter-token": "/tmp/jupyter-token"}),
        ("jupyter", {"/notebooks": "/home/me"}),
    ],
)
def test_notebooks_of_nobody_are_findings(service: str, more: dict[str, object]) -> None:
    rules = {rule for rule, _ in found(described(service, MOUNTS | more, "8888/tcp"), NOTEBOOKS)}
    assert rules >= {"writable-place", "executable-place"}


def test_another_file_of_the_host_is_a_finding_beside_those_of_the_session() -> None:
    one = described("jupyter", MOUNTS | {"/etc/ssh": "/etc/ssh"}, "8888/tcp")
    assert found(one, NOTEBOOKS) == {("undeclared-mount", "etc/ssh")}


def test_jupyter_is_root_only_where_root_owns_the_notebooks(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    one = described("jupyter", MOUNTS | {"/notebooks": f"{tmp_path}/notebooks"}, "8888/tcp")
    rules = {acceptance.rule for acceptance in find_added(HOME, tmp_path, one).acceptances}
    assert ("process-root" in rules) is ((tmp_path / "notebooks").stat().st_uid == 0)
    assert "process-root" not in {acceptance.rule for acceptance in find_added(HOME, PROJECT, one).acceptances}
