"""Every check, from facts alone."""

import dataclasses

import pytest

from buildkit.doctor.checks import CHECKS, check_host
from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus
from buildkit.doctor.facts import (
    ContainerHost,
    ContainerStorage,
    DiskSpace,
    HostFacts,
    HostSystem,
    ImageStoreFacts,
    InstalledTool,
    SubordinateIds,
    UserNamespaces,
)
from buildkit.doctor.tool_checks import is_older
from buildkit.gpu.cdi_spec import CdiFile, CdiFiles, CdiSpec
from buildkit.gpu.device import Gpu, Gpus
from buildkit.tools.isolation import Isolation

GB = 1_000_000_000

STORE = ImageStoreFacts(
    folder="/home/ann/.local/share/xoe-buildkit/store",
    settings_file="/home/ann/.config/containers/storage.conf",
    is_listed=True,
    exists=True,
    is_readable=True,
    file_system="ext2/ext3",
)
HEALTHY = HostFacts(
    system=HostSystem(user="ann", uid=1000),
    tools=(
        InstalledTool(name="buildah", path="/usr/bin/buildah", version="1.44.0"),
        InstalledTool(name="skopeo", path="/usr/bin/skopeo", version="1.18.0"),
        InstalledTool(name="mmdebstrap", path="/usr/bin/mmdebstrap", version="1.5.7"),
        InstalledTool(name="git", path="/usr/bin/git", version="2.47.2"),
        InstalledTool(name="uv", path="/x/.venv/bin/uv", version="0.13.9"),
        InstalledTool(name="podman", path="/usr/bin/podman", version="5.4.2"),
        InstalledTool(name="newuidmap", path="/usr/bin/newuidmap"),
    ),
    storage=ContainerStorage(
        driver="overlay", native_diff=True, graph_root="/home/ann/.local/share/containers/storage"
    ),
    containers=ContainerHost(backend="netavark"),
    image_store=STORE,
    disks=(
        DiskSpace(use="images", path="/home/ann", free=100 * GB, total=200 * GB),
        DiskSpace(use="cache", path="/home/ann/.cache", free=100 * GB, total=200 * GB),
        DiskSpace(use="temporary files", path="/tmp", free=100 * GB, total=200 * GB),
    ),
    ranges=SubordinateIds(uids=65536, gids=65536),
    logins=("registry.example",),
    gpus=Gpus(devices=(Gpu(index=0, name="H200", uuid="GPU-1", memory=150 * GB),), driver="580.1", driver_found=True),
    cdi=CdiFiles(
        files=(
            CdiFile(
                path="/etc/cdi/nvidia.yaml", spec=CdiSpec(kind="nvidia.com/gpu", version="0.5.0", devices=("0", "all"))
            ),
        )
    ),
)


def having(**changes: object) -> HostFacts:
    return dataclasses.replace(HEALTHY, **changes)


def with_tool(name: str, path: str = "/usr/bin/x", version: str = "") -> HostFacts:
    rest = tuple(tool for tool in HEALTHY.tools if tool.name != name)
    return having(tools=(*rest, InstalledTool(name=name, path=path, version=version)))


def bad(facts: HostFacts) -> list[Diagnosis]:
    return [finding for finding in check_host(facts) if finding.status is not DiagnosisStatus.OK]


def only(facts: HostFacts) -> Diagnosis:
    found = bad(facts)
    assert len(found) == 1, found
    return found[0]


def test_healthy_host_has_only_good_findings() -> None:
    assert bad(HEALTHY) == []
    assert {finding.id for finding in check_host(HEALTHY)} >= {"buildah", "storage", "subids", "gpu", "cdi", "log-ins"}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("buildah", DiagnosisStatus.ERROR),
        ("skopeo", DiagnosisStatus.ERROR),
        ("mmdebstrap", DiagnosisStatus.ERROR),
        ("git", DiagnosisStatus.ERROR),
        ("uv", DiagnosisStatus.WARNING),
        ("podman", DiagnosisStatus.NOTE),
    ],
)
def test_missing_tool_is_reported_with_its_package(name: str, status: DiagnosisStatus) -> None:
    found = only(with_tool(name, path=""))
    assert (found.id, found.status) == (name, status)
    assert found.cost
    mends = {"uv": "pip install uv", "podman": "sudo apt-get install podman nftables"}
    assert found.mend == mends.get(name, f"sudo apt-get install {name}")


def test_missing_uidmap_matters_to_users_only() -> None:
    facts = with_tool("newuidmap", path="")
    assert only(facts).mend == "sudo apt-get install uidmap"
    assert bad(dataclasses.replace(facts, system=HostSystem(uid=0), ranges=None)) == []


def test_outdated_tool_and_unknown_version_are_reported() -> None:
    old = only(with_tool("skopeo", version="1.4.1"))
    assert (old.status, "1.4.1 is older than 1.9" in old.what) == (DiagnosisStatus.WARNING, True)
    assert only(with_tool("skopeo")).status is DiagnosisStatus.NOTE


def test_known_defects_of_debian_12_buildah_are_notes() -> None:
    found = bad(with_tool("buildah", version="1.28.2"))
    assert [finding.id for finding in found] == ["buildah-1.29", "buildah-1.36", "buildah-1.41"]
    assert "sharing=locked" in found[0].what
    assert {finding.status for finding in found} == {DiagnosisStatus.NOTE}
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
        ("v2", (), DiagnosisStatus.ERROR, "sudo apt-get install crun"),
        ("hybrid", (), DiagnosisStatus.ERROR, "sudo apt-get install runc"),
        ("hybrid", ("crun",), DiagnosisStatus.ERROR, "sudo apt-get install runc"),
        ("v1", ("crun",), DiagnosisStatus.ERROR, "sudo apt-get install runc"),
        ("hybrid", ("crun", "runc"), DiagnosisStatus.WARNING, 'runtime = "runc"'),
        ("none", ("runc",), DiagnosisStatus.WARNING, ""),
    ],
)
def test_runtime_that_does_not_fit_the_cgroups_is_reported(
    cgroups: str, runtimes: tuple[str, ...], status: DiagnosisStatus, says: str
) -> None:
    host = ContainerHost(cgroups=cgroups, runtimes=runtimes, backend="netavark")
    found = only(having(containers=host))
    assert (found.id, found.status) == ("runtime", status)
    assert says in found.mend


@pytest.mark.parametrize(("cgroups", "runtimes"), [("v2", ("crun",)), ("v2", ("runc",)), ("hybrid", ("runc",))])
def test_working_runtime_is_accepted(cgroups: str, runtimes: tuple[str, ...]) -> None:
    assert bad(having(containers=ContainerHost(cgroups=cgroups, runtimes=runtimes))) == []


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        (ContainerStorage(driver="vfs", graph_root="/x"), "full copies"),
        (ContainerStorage(driver="overlay", native_diff=False, graph_root="/x"), "without native diff"),
        (
            ContainerStorage(driver="overlay", native_diff=False, mount_program="/usr/bin/fuse-overlayfs"),
            "fuse-overlayfs",
        ),
    ],
)
def test_slow_storage_is_a_warning(storage: ContainerStorage, says: str) -> None:
    found = only(having(storage=storage, image_store=ImageStoreFacts()))
    assert (found.id, found.status) == ("storage", DiagnosisStatus.WARNING)
    assert says in found.what
    assert "commit" in found.cost
    assert found.mend


def test_storage_without_answer_is_an_error() -> None:
    found = only(having(storage=ContainerStorage(problem="database is corrupt")))
    assert found.status is DiagnosisStatus.ERROR
    assert "database is corrupt" in found.what


def test_missing_buildah_is_reported_once() -> None:
    facts = dataclasses.replace(
        with_tool("buildah", path=""), storage=ContainerStorage(problem="buildah is not installed")
    )
    assert only(facts).id == "buildah"


@pytest.mark.parametrize(
    ("backend", "cni", "netavark", "lacks"),
    [
        ("cni", False, True, ("containernetworking-plugins", "iptables")),
        ("netavark", False, False, ("netavark",)),
        ("netavark", False, False, ("nftables",)),
    ],
)
def test_podman_network_that_lacks_something_is_reported(
    backend: str, cni: bool, netavark: bool, lacks: tuple[str, ...]
) -> None:
    host = ContainerHost(backend=backend, has_cni=cni, has_netavark=netavark, network_lacks=lacks)
    found = only(having(containers=host))
    assert found.mend == f"sudo apt-get install {' '.join(lacks)}"
    assert " and ".join(lacks) in found.what
    assert bad(having(containers=dataclasses.replace(host, has_cni=True, has_netavark=True))) == []


def test_device_for_networks_of_ordinary_users_is_reported() -> None:
    found = only(having(containers=dataclasses.replace(HEALTHY.containers, has_tun=False)))
    assert (found.id, found.what) == ("tun", "ann may not open /dev/net/tun")
    as_root = HostSystem(uid=0)
    assert bad(having(containers=ContainerHost(has_tun=False), system=as_root, ranges=None)) == []


@pytest.mark.parametrize(
    ("version", "here", "package"),
    [("4.3.1", "pasta", "slirp4netns"), ("5.4.2", "slirp4netns", "passt"), ("5.4.2", "pasta", "")],
)
def test_program_for_networks_of_ordinary_users_is_reported(version: str, here: str, package: str) -> None:
    tools = [dataclasses.replace(tool, version=version) if tool.name == "podman" else tool for tool in HEALTHY.tools]
    containers = dataclasses.replace(HEALTHY.containers, user_networks=(here,))
    facts = having(containers=containers, tools=tuple(tools))
    found = [finding.mend for finding in bad(facts) if finding.id == "user-network"]
    assert found == ([f"sudo apt-get install {package}"] if package else [])
    as_root = dataclasses.replace(facts, system=HostSystem(uid=0))
    assert "user-network" not in [finding.id for finding in bad(as_root)]


def test_file_limit_that_podman_cannot_raise_is_reported() -> None:
    host = ContainerHost(nofile=20000, may_raise=False)
    found = only(having(containers=host))
    assert (found.id, found.status) == ("limits", DiagnosisStatus.WARNING)
    assert "nofile=20000:20000" in found.mend
    assert bad(having(containers=dataclasses.replace(host, may_raise=True))) == []
    assert bad(having(containers=dataclasses.replace(host, rootful=False))) == []


def test_too_few_subordinate_ids_are_reported() -> None:
    found = only(having(ranges=SubordinateIds(uids=65536, gids=0, free=165536)))
    assert (found.id, found.status) == ("subids", DiagnosisStatus.ERROR)
    assert "--add-subuids 165536-231071 --add-subgids 165536-231071 ann" in found.mend
    assert bad(having(ranges=None)) == []


def test_disabled_user_namespaces_are_reported() -> None:
    closed = having(namespaces=UserNamespaces(allowed=False))
    assert only(closed).status is DiagnosisStatus.ERROR
    assert bad(dataclasses.replace(closed, system=HostSystem(uid=0), ranges=None)) == []


def test_apparmor_restriction_without_a_profile_is_reported() -> None:
    lacking = only(having(namespaces=UserNamespaces(apparmor_restricts=True, profiles=("buildah",))))
    assert "mmdebstrap" in lacking.what
    assert "buildah" not in lacking.what
    assert bad(having(namespaces=UserNamespaces(apparmor_restricts=True, profiles=("buildah", "mmdebstrap")))) == []


def test_missing_runtime_folder_of_a_session_is_reported() -> None:
    assert only(having(runtime_folder=False)).mend.startswith("sudo loginctl enable-linger ann")


@pytest.mark.parametrize(
    ("use", "free", "status"),
    [
        ("images", 1 * GB, DiagnosisStatus.ERROR),
        ("images", 5 * GB, DiagnosisStatus.WARNING),
        ("cache", GB // 2, DiagnosisStatus.ERROR),
        ("cache", 5 * GB, DiagnosisStatus.WARNING),
        ("temporary files", GB // 10, DiagnosisStatus.ERROR),
        ("temporary files", 1 * GB, DiagnosisStatus.WARNING),
    ],
)
def test_low_disk_space_is_reported(use: str, free: int, status: DiagnosisStatus) -> None:
    found = only(having(disks=(DiskSpace(use=use, path="/x", free=free, total=200 * GB),)))
    assert (found.id, found.status) == (f"disk-{use.replace(' ', '-')}", status)
    assert found.mend


def test_temporary_files_in_memory_and_an_inaccessible_cache_are_reported() -> None:
    memory = DiskSpace(use="temporary files", path="/tmp", free=8 * GB, total=8 * GB, in_memory=True)
    assert "memory" in only(having(disks=(memory,))).what
    closed = DiskSpace(use="cache", path="/c", free=80 * GB, total=80 * GB, writable=False)
    assert only(having(disks=(closed,))).status is DiagnosisStatus.ERROR


def test_missing_debian_keyring_is_an_error() -> None:
    assert only(having(debian_keyring=False)).mend == "sudo apt-get install debian-archive-keyring"


def test_missing_registry_log_ins_are_a_note() -> None:
    found = only(having(logins=()))
    assert (found.status, found.mend) == (DiagnosisStatus.NOTE, "skopeo login REGISTRY")


def test_variables_that_are_set_are_named_in_a_finding() -> None:
    assert "PIP_INDEX_URL" in only(having(settings=("PIP_INDEX_URL",))).what


STORES = {
    "is gone": ({"exists": False, "is_readable": False}, DiagnosisStatus.ERROR, "--enable-store"),
    "is closed to you": ({"is_readable": False}, DiagnosisStatus.ERROR, "--disable-store"),
    "on nfs": ({"is_listed": False, "file_system": "nfs"}, DiagnosisStatus.WARNING, "BUILDKIT_STORE"),
    "exfat does not keep owners": ({"file_system": "exfat"}, DiagnosisStatus.WARNING, "BUILDKIT_STORE"),
    "podman does not see": ({"is_listed": False, "exists": False}, DiagnosisStatus.NOTE, "--enable-store"),
    "storage.conf cannot be read": (
        {"problem": "storage.conf cannot be read", "mend": "chmod u+r"},
        DiagnosisStatus.ERROR,
        "chmod u+r",
    ),
}


@pytest.mark.parametrize("what", STORES)
def test_image_store_that_podman_cannot_use_is_reported(what: str) -> None:
    changes, status, mend = STORES[what]
    found = only(having(image_store=dataclasses.replace(STORE, **changes)))
    assert (found.id, found.status) == ("image-store", status)
    assert what in found.what
    assert mend in found.mend


def test_image_store_beside_another_driver_is_reported() -> None:
    facts = having(storage=ContainerStorage(driver="btrfs", native_diff=True, graph_root="/g"))
    assert only(facts).mend.endswith("--disable-store")
    assert bad(dataclasses.replace(facts, image_store=dataclasses.replace(STORE, is_listed=False))) == []


def test_isolation_of_steps_is_said_with_its_reason() -> None:
    private = having(isolation=Isolation(kind="chroot", why="no crun and no runc in PATH"))
    assert bad(private) == []
    said = next(finding.what for finding in check_host(private) if finding.id == "isolation")
    assert said == "steps run with chroot isolation (no crun and no runc in PATH); private processes, IPC and /dev"
    shared = only(having(isolation=Isolation(kind="chroot", why="x", shared="unshare: not permitted")))
    assert (shared.id, shared.status) == ("isolation", DiagnosisStatus.WARNING)
    assert "unshare: not permitted" in shared.what
    assert "secrets are refused" in shared.cost


def test_every_check_can_produce_a_finding() -> None:
    """A check that is not in CHECKS, or never yields, would be dead."""
    worst = HostFacts(
        system=HostSystem(uid=1000, user="ann"),
        tools=(),
        storage=ContainerStorage(problem="x"),
        containers=ContainerHost(cgroups="none", backend="cni", nofile=1, may_raise=False, has_tun=False),
        ranges=SubordinateIds(uids=0, gids=0),
        namespaces=UserNamespaces(allowed=False),
        disks=(DiskSpace(use="cache", path="/c", free=0, total=0),),
        debian_keyring=False,
        settings=("x",),
    )
    answering = dataclasses.replace(
        worst,
        tools=(InstalledTool(name="buildah", path="/b"), InstalledTool(name="podman", path="/p", version="5.4.2")),
        containers=ContainerHost(user_networks=()),
        storage=ContainerStorage(),
        image_store=ImageStoreFacts(problem="x"),
        isolation=Isolation(kind="chroot", why="x", shared="y"),
        emulated={"aarch64": False},
        gpus=Gpus(devices=(Gpu(index=0, compute_mode="PROHIBITED"),)),
    )
    assert all(list(check(worst)) or list(check(answering)) for check in CHECKS)


def test_programs_of_other_processors_are_noted_where_they_do_not_run() -> None:
    facts = dataclasses.replace(HEALTHY, emulated={"aarch64": False})
    (found,) = [one for one in check_host(facts) if one.id == "emulation"]
    assert (found.status, found.what) == (DiagnosisStatus.NOTE, "programs for aarch64 do not run here")
    assert "qemu-user-static" in found.mend
    facts = dataclasses.replace(HEALTHY, emulated={"aarch64": True})
    (found,) = [one for one in check_host(facts) if one.id == "emulation"]
    assert found.status is DiagnosisStatus.OK
    assert not [one for one in check_host(HEALTHY) if one.id == "emulation"]
