import json
import resource
import shutil
from pathlib import Path

import pytest

from buildkit.doctor.checks import check_host
from buildkit.doctor.diagnose import diagnose
from buildkit.doctor.facts import ContainerStorage, InstalledTool
from buildkit.doctor.probe import (
    auth_files,
    count_ids,
    find_free_id,
    find_logins,
    parse_getsubids,
    parse_version,
    probe_host,
    probe_tool,
)
from buildkit.doctor.probe_containers import (
    find_program,
    limit_processes,
    parse_firewall,
    parse_storage,
    probe_containers,
    probe_storage,
    read_cgroups,
)
from buildkit.doctor.render import render_json, render_text


def test_program_that_cannot_be_started_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "podman-compose"
    program.write_text(f"#!{tmp_path}/python\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe_tool("podman-compose") == InstalledTool(name="podman-compose")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)", "1.28.2"),
        ("git version 2.39.5", "2.39.5"),
        ("mmdebstrap 1.3.5", "1.3.5"),
        ("uv 0.13.9 (abcdef 2026-10-01)", "0.13.9"),
        ("no idea", ""),
    ],
)
def test_versions_are_parsed_from_tool_output(text: str, version: str) -> None:
    assert parse_version(text) == version


def test_subordinate_ids_are_counted_by_name_and_by_number() -> None:
    text = "ann:100000:65536\nbob:165536:65536\n1000:300000:10\nbroken\n"
    assert count_ids(text, "ann", 1000) == 65546
    assert count_ids(text, "eve", 7) == 0
    assert parse_getsubids("0: ann 100000 65536\n") == 65536
    assert parse_getsubids("Error fetching ranges\n") == 0
    assert find_free_id(text) == 300010
    assert find_free_id("") == 100000


def test_auth_files_follow_the_environment() -> None:
    home = Path("/home/ann")
    assert auth_files({"REGISTRY_AUTH_FILE": "/x.json"}, home, 1000) == (Path("/x.json"),)
    assert auth_files({"XDG_RUNTIME_DIR": "/run/user/1000"}, home, 1000) == (
        Path("/run/user/1000/containers/auth.json"),
        Path("/home/ann/.config/containers/auth.json"),
        Path("/home/ann/.docker/config.json"),
    )


def test_log_ins_are_names_and_never_secrets(tmp_path: Path) -> None:
    one, other, broken = tmp_path / "auth.json", tmp_path / "config.json", tmp_path / "broken.json"
    one.write_text(json.dumps({"auths": {"registry.example/team": {"auth": "c2VjcmV0"}, "b.example": {}}}))
    other.write_text(
        json.dumps({"auths": {"https://ann:hunter2@a.example/v1/": {}}, "credHelpers": {"c.example": "gcr"}})
    )
    broken.write_text("{")
    found = find_logins((one, other, broken, tmp_path / "missing"))
    assert found == ("a.example/v1/", "b.example", "c.example", "registry.example/team")


@pytest.mark.parametrize(
    ("folders", "files", "kind"),
    [
        ((), ("cgroup.controllers",), "v2"),
        (("memory", "unified"), (), "hybrid"),
        (("memory", "cpu"), (), "v1"),
        ((), (), "none"),
    ],
)
def test_kind_of_cgroups_is_detected(
    tmp_path: Path, folders: tuple[str, ...], files: tuple[str, ...], kind: str
) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    for name in files:
        (tmp_path / name).touch()
    assert read_cgroups(tmp_path) == kind


def test_processes_are_limited_by_the_kernels_pids(tmp_path: Path) -> None:
    pid_max = tmp_path / "pid_max"
    assert limit_processes(96365, pid_max) == 96365
    pid_max.write_text("32768\n")
    assert limit_processes(96365, pid_max) == 32768
    assert limit_processes(500, pid_max) == 500
    assert limit_processes(resource.RLIM_INFINITY, pid_max) == 32768


def test_storage_is_parsed_from_buildah_info() -> None:
    """As buildah 1.28 prints it; the contract test below holds this against the buildah that is here."""
    info = {
        "host": {"OCIRuntime": "runc"},
        "store": {
            "GraphDriverName": "overlay",
            "GraphOptions": ["overlay.mount_program=/usr/bin/fuse-overlayfs"],
            "GraphRoot": "/var/lib/containers/storage",
            "GraphStatus": {"Native Overlay Diff": "false"},
        },
    }
    assert parse_storage(info) == ContainerStorage(
        driver="overlay",
        native_diff=False,
        mount_program="/usr/bin/fuse-overlayfs",
        graph_root="/var/lib/containers/storage",
    )
    assert parse_storage(
        {"store": {"GraphDriverName": "vfs", "GraphOptions": None, "GraphStatus": {}}}
    ) == ContainerStorage(driver="vfs")


@pytest.mark.tools
def test_the_real_tools_answer_as_the_probe_reads_them(tmp_path: Path) -> None:
    storage = probe_storage()
    assert storage.problem == ""
    assert storage.driver in ("overlay", "vfs", "btrfs")
    assert Path(storage.graph_root).is_absolute()
    facts = probe_host(tmp_path / "not" / "yet")
    for name in ("buildah", "skopeo", "mmdebstrap", "git", "podman"):
        tool = facts.find_tool(name)
        assert tool.path, f"{name} is missing: ci/bootstrap nox -s tests installs it"
        assert tool.version, f"{name} --version says no version that we can read"
    assert facts.find_tool("uv").version
    assert {disk.use for disk in facts.disks} >= {"images", "cache"}
    assert all(disk.total > 0 for disk in facts.disks)


@pytest.mark.tools
def test_container_prerequisites_are_probed() -> None:
    host = probe_containers()
    assert host.cgroups in ("v1", "v2", "hybrid", "none")
    assert set(host.runtimes) == {name for name in ("crun", "runc") if find_program(name)}
    assert host.runtimes
    assert host.backend in ("cni", "netavark")


NETAVARK = {  # what `netavark version` prints on Debian 13 and 12
    '{"version": "1.14.0", "target": "x86_64-unknown-linux-gnu", "default_fw_driver": "nftables"}': "nftables",
    '{"version": "1.4.0", "target": "x86_64-unknown-linux-gnu"}': "iptables",
    "": "iptables",
}


@pytest.mark.parametrize("printed", NETAVARK)
def test_firewall_of_netavark_is_looked_for(printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    firewall = NETAVARK[printed]
    assert parse_firewall(printed) == firewall
    program = tmp_path / "netavark"
    program.write_text(f"#!/bin/sh\necho '{printed}'\n")
    program.chmod(0o755)
    monkeypatch.setattr("buildkit.doctor.probe_containers._LIBRARIES", (str(tmp_path),))
    there = {"nft": "", "iptables": ""}
    monkeypatch.setattr("buildkit.doctor.probe_containers.find_program", lambda name: there.get(name, "/usr/bin/x"))
    assert not probe_containers().has_netavark
    there["iptables" if firewall == "nftables" else "nft"] = "/usr/sbin/x"  # the other one does not help
    assert not probe_containers().has_netavark
    there["nft" if firewall == "nftables" else "iptables"] = "/usr/sbin/x"
    assert probe_containers().has_netavark


@pytest.mark.tools
def test_a_diagnosis_can_be_printed(tmp_path: Path) -> None:
    findings = diagnose(tmp_path)
    assert {finding.id for finding in findings} >= {"buildah", "skopeo", "storage", "disk-cache"}
    assert all(finding.what for finding in findings)
    assert json.loads(render_json(findings))
    assert render_text(findings, width=100, colour=False)


def test_host_without_tools_gives_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("buildkit.doctor.probe_containers._SBIN", ())
    facts = probe_host(tmp_path)
    assert shutil.which("git") is None
    assert {finding.id for finding in check_host(facts) if finding.status.value == "error"} >= {
        "buildah",
        "skopeo",
        "mmdebstrap",
        "git",
        "runtime",
    } - ({"runtime"} if facts.containers.cgroups == "none" else set())


def test_inaccessible_cache_folder_is_reported(tmp_path: Path) -> None:
    facts = probe_host(Path("/proc/1/root-that-is-not/there"))
    assert any(disk.use == "cache" for disk in facts.disks)
