"""Every check, from facts alone."""

import dataclasses

import pytest

from buildkit.doctor.checks import CHECKS, check_host
from buildkit.doctor.facts import ContainerHost, Disk, Facts, Namespaces, Ranges, Storage, System, Tool
from buildkit.doctor.finding import Diagnosis, Status
from buildkit.doctor.tool_checks import is_older
from buildkit.tools.gpu import Gpu, Gpus

GB = 1_000_000_000

HEALTHY = Facts(
    system=System(distribution="debian", codename="trixie", kernel="6.12", user="ann", uid=1000),
    tools=(
        Tool(name="buildah", path="/usr/bin/buildah", version="1.44.0"),
        Tool(name="skopeo", path="/usr/bin/skopeo", version="1.18.0"),
        Tool(name="mmdebstrap", path="/usr/bin/mmdebstrap", version="1.5.7"),
        Tool(name="git", path="/usr/bin/git", version="2.47.2"),
        Tool(name="uv", path="/x/.venv/bin/uv", version="0.13.9"),
        Tool(name="podman", path="/usr/bin/podman", version="5.4.2"),
        Tool(name="newuidmap", path="/usr/bin/newuidmap"),
    ),
    storage=Storage(driver="overlay", native_diff=True, graph_root="/home/ann/.local/share/containers/storage"),
    containers=ContainerHost(backend="netavark"),
    disks=(
        Disk(use="images", path="/home/ann", free=100 * GB, total=200 * GB),
        Disk(use="cache", path="/home/ann/.cache", free=100 * GB, total=200 * GB),
        Disk(use="temporary files", path="/tmp", free=100 * GB, total=200 * GB),
    ),
    ranges=Ranges(uids=65536, gids=65536),
    logins=("registry.example",),
    gpus=Gpus(devices=(Gpu(index=0, name="H200", uuid="GPU-1", memory=150 * GB),), driver="580.1", driver_found=True),
    cdi_specs=("/etc/cdi/nvidia.yaml",),
)


def having(**changes: object) -> Facts:
    return dataclasses.replace(HEALTHY, **changes)


def with_tool(name: str, path: str = "/usr/bin/x", version: str = "") -> Facts:
    rest = tuple(tool for tool in HEALTHY.tools if tool.name != name)
    return having(tools=(*rest, Tool(name=name, path=path, version=version)))


def bad(facts: Facts) -> list[Diagnosis]:
    return [finding for finding in check_host(facts) if finding.status is not Status.OK]


def only(facts: Facts) -> Diagnosis:
    found = bad(facts)
    assert len(found) == 1, found
    return found[0]


def test_a_healthy_host_has_only_good_findings() -> None:
    assert bad(HEALTHY) == []
    assert {finding.id for finding in check_host(HEALTHY)} >= {"buildah", "storage", "subids", "gpu", "cdi", "log-ins"}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("buildah", Status.ERROR),
        ("skopeo", Status.ERROR),
        ("mmdebstrap", Status.ERROR),
        ("git", Status.ERROR),
        ("uv", Status.WARNING),
        ("podman", Status.NOTE),
    ],
)
def test_a_missing_tool(name: str, status: Status) -> None:
    found = only(with_tool(name, path=""))
    assert (found.id, found.status) == (name, status)
    assert found.cost
    assert found.mend == ("ci/bootstrap true" if name == "uv" else f"sudo apt-get install {name}")


def test_missing_uidmap_matters_to_users_only() -> None:
    facts = with_tool("newuidmap", path="")
    assert only(facts).mend == "sudo apt-get install uidmap"
    assert bad(dataclasses.replace(facts, system=System(uid=0), ranges=None)) == []


def test_an_old_tool_and_one_that_says_no_version() -> None:
    old = only(with_tool("skopeo", version="1.4.1"))
    assert (old.status, "1.4.1 is older than 1.9" in old.what) == (Status.WARNING, True)
    assert only(with_tool("skopeo")).status is Status.NOTE


def test_known_flaws_of_debian_12s_buildah() -> None:
    found = bad(with_tool("buildah", version="1.28.2"))
    assert [finding.id for finding in found] == ["buildah-1.29", "buildah-1.36", "buildah-1.41"]
    assert "sharing=locked" in found[0].what
    assert {finding.status for finding in found} == {Status.NOTE}
    assert [finding.id for finding in bad(with_tool("buildah", version="1.39.3"))] == ["buildah-1.41"]


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [("1.28.2", "1.29", True), ("1.9", "1.10", True), ("1.29.0", "1.29", False), ("2.0", "1.99", False)],
)
def test_versions_compare_as_numbers(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older


@pytest.mark.parametrize(
    ("cgroups", "runtimes", "status", "says"),
    [
        ("v2", (), Status.ERROR, "sudo apt-get install crun"),
        ("hybrid", (), Status.ERROR, "sudo apt-get install runc"),
        ("hybrid", ("crun",), Status.ERROR, "sudo apt-get install runc"),
        ("v1", ("crun",), Status.ERROR, "sudo apt-get install runc"),
        ("hybrid", ("crun", "runc"), Status.WARNING, 'runtime = "runc"'),
        ("none", ("runc",), Status.WARNING, ""),
    ],
)
def test_runtime_and_cgroups(cgroups: str, runtimes: tuple[str, ...], status: Status, says: str) -> None:
    host = ContainerHost(cgroups=cgroups, runtimes=runtimes, backend="netavark")
    found = only(having(containers=host))
    assert (found.id, found.status) == ("runtime", status)
    assert says in found.mend


@pytest.mark.parametrize(("cgroups", "runtimes"), [("v2", ("crun",)), ("v2", ("runc",)), ("hybrid", ("runc",))])
def test_runtimes_that_work(cgroups: str, runtimes: tuple[str, ...]) -> None:
    assert bad(having(containers=ContainerHost(cgroups=cgroups, runtimes=runtimes))) == []


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        (Storage(driver="vfs", graph_root="/x"), "full copies"),
        (Storage(driver="overlay", native_diff=False, graph_root="/x"), "without native diff"),
        (Storage(driver="overlay", native_diff=False, mount_program="/usr/bin/fuse-overlayfs"), "fuse-overlayfs"),
    ],
)
def test_slow_storage_is_a_warning(storage: Storage, says: str) -> None:
    found = only(having(storage=storage))
    assert (found.id, found.status) == ("storage", Status.WARNING)
    assert says in found.what
    assert "commit" in found.cost
    assert found.mend


def test_storage_that_does_not_answer() -> None:
    found = only(having(storage=Storage(problem="database is corrupt")))
    assert found.status is Status.ERROR
    assert "database is corrupt" in found.what


def test_a_missing_buildah_is_said_once() -> None:
    facts = dataclasses.replace(with_tool("buildah", path=""), storage=Storage(problem="buildah is not installed"))
    assert only(facts).id == "buildah"


@pytest.mark.parametrize(
    ("backend", "cni", "netavark", "package"),
    [("cni", False, True, "containernetworking-plugins"), ("netavark", False, False, "netavark")],
)
def test_podmans_network_without_its_plugins(backend: str, cni: bool, netavark: bool, package: str) -> None:
    host = ContainerHost(backend=backend, has_cni=cni, has_netavark=netavark)
    assert only(having(containers=host)).mend == f"sudo apt-get install {package} iptables"
    assert bad(having(containers=dataclasses.replace(host, has_cni=True, has_netavark=True))) == []


def test_a_limit_that_podman_cannot_raise() -> None:
    host = ContainerHost(nofile=20000, may_raise=False)
    found = only(having(containers=host))
    assert (found.id, found.status) == ("limits", Status.WARNING)
    assert "nofile=20000:20000" in found.mend
    assert bad(having(containers=dataclasses.replace(host, may_raise=True))) == []
    assert bad(having(containers=dataclasses.replace(host, rootful=False))) == []


def test_too_few_subordinate_ids() -> None:
    found = only(having(ranges=Ranges(uids=65536, gids=0, free=165536)))
    assert (found.id, found.status) == ("subids", Status.ERROR)
    assert "--add-subuids 165536-231071 --add-subgids 165536-231071 ann" in found.mend
    assert bad(having(ranges=None)) == []


def test_closed_user_namespaces() -> None:
    closed = having(namespaces=Namespaces(allowed=False))
    assert only(closed).status is Status.ERROR
    assert bad(dataclasses.replace(closed, system=System(uid=0), ranges=None)) == []


def test_apparmor_restricts_what_has_no_profile() -> None:
    lacking = only(having(namespaces=Namespaces(apparmor_restricts=True, profiles=("buildah",))))
    assert "mmdebstrap" in lacking.what
    assert "buildah" not in lacking.what
    assert bad(having(namespaces=Namespaces(apparmor_restricts=True, profiles=("buildah", "mmdebstrap")))) == []


def test_a_session_without_a_runtime_folder() -> None:
    assert only(having(runtime_folder=False)).mend.startswith("sudo loginctl enable-linger ann")


@pytest.mark.parametrize(
    ("use", "free", "status"),
    [
        ("images", 1 * GB, Status.ERROR),
        ("images", 5 * GB, Status.WARNING),
        ("cache", GB // 2, Status.ERROR),
        ("cache", 5 * GB, Status.WARNING),
        ("temporary files", GB // 10, Status.ERROR),
        ("temporary files", 1 * GB, Status.WARNING),
    ],
)
def test_little_room(use: str, free: int, status: Status) -> None:
    found = only(having(disks=(Disk(use=use, path="/x", free=free, total=200 * GB),)))
    assert (found.id, found.status) == (f"disk-{use.replace(' ', '-')}", status)
    assert found.mend


def test_temporary_files_in_memory_and_a_closed_cache() -> None:
    memory = Disk(use="temporary files", path="/tmp", free=8 * GB, total=8 * GB, in_memory=True)
    assert "memory" in only(having(disks=(memory,))).what
    closed = Disk(use="cache", path="/c", free=80 * GB, total=80 * GB, writable=False)
    assert only(having(disks=(closed,))).status is Status.ERROR


def test_debians_keys() -> None:
    assert only(having(debian_keyring=False)).mend == "sudo apt-get install debian-archive-keyring"


def test_no_log_ins_is_a_note() -> None:
    found = only(having(logins=()))
    assert (found.status, found.mend) == (Status.NOTE, "skopeo login REGISTRY")


def test_no_driver_is_a_note_a_silent_one_a_warning() -> None:
    assert only(having(gpus=Gpus(problem="NVML Shared Library Not Found"))).status is Status.NOTE
    silent = only(having(gpus=Gpus(problem="Driver/library version mismatch", driver_found=True)))
    assert silent.status is Status.WARNING
    assert "mismatch" in silent.what


def test_a_gpu_without_a_cdi_specification() -> None:
    generate = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    facts = having(cdi_specs=("/etc/cdi/other.yaml",))
    assert only(facts).mend == f"sudo apt-get install nvidia-container-toolkit && {generate}"
    with_ctk = dataclasses.replace(facts, tools=(*facts.tools, Tool(name="nvidia-ctk", path="/usr/bin/nvidia-ctk")))
    assert only(with_ctk).mend == generate


def test_settings_are_named() -> None:
    assert "PIP_INDEX_URL" in only(having(settings=("PIP_INDEX_URL",))).what


def test_every_check_says_something_somewhere() -> None:
    """A check that is not in CHECKS, or never yields, would be dead."""
    worst = Facts(
        system=System(uid=1000, user="ann"),
        tools=(),
        storage=Storage(problem="x"),
        containers=ContainerHost(cgroups="none", backend="cni", nofile=1, may_raise=False),
        ranges=Ranges(uids=0, gids=0),
        namespaces=Namespaces(allowed=False),
        disks=(Disk(use="cache", path="/c", free=0, total=0),),
        debian_keyring=False,
        settings=("x",),
    )
    answering = dataclasses.replace(worst, tools=(Tool(name="buildah", path="/b"),))
    assert all(list(check(worst)) or list(check(answering)) for check in CHECKS)
