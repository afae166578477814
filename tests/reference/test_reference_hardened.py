"""The hardened image holds what the service needs and nothing that helps an intruder."""

from __future__ import annotations

import re
import stat
from functools import cache

import pytest

from tests.reference.builds import ROOT
from tests.reference.conftest import Project
from tests.reference.engine import Entry, Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]

FORBIDDEN = {
    "sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "toybox", "env", "ls", "cat", "cp", "mv", "rm", "chmod",
    "chown", "ln", "dd", "id", "ps", "kill", "mount", "su", "sudo", "passwd", "login", "tar", "gzip", "sed", "grep",
    "find", "xargs", "awk", "mawk", "gawk", "perl", "curl", "wget", "nc", "ssh", "openssl", "gcc", "cc", "ld", "as",
    "make", "apt", "apt-get", "dpkg", "dpkg-deb", "dpkg-reconfigure", "debconf", "pip", "pip3", "uv", "conda",
    "ldconfig",
}  # fmt: skip
PROGRAMS = (
    "bin/",
    "sbin/",
    "usr/bin/",
    "usr/sbin/",
    "usr/local/bin/",
    "usr/local/sbin/",
    "usr/games/",
    "opt/venv/bin/",
)


@pytest.fixture(scope="module")
def entries(project: Project, podman: Podman) -> list[Entry]:
    return podman.walk(project.images["hardened"], project.images["base"])


def test_hardened_has_no_shell_package_manager_or_utilities(entries: list[Entry]) -> None:
    found = {entry.path for entry in entries if not stat.S_ISDIR(entry.mode)}
    named = {path for path in found if path.startswith(PROGRAMS) and path.rpartition("/")[2] in FORBIDDEN}
    assert named == set()


def test_hardened_has_python_as_its_only_program(entries: list[Entry]) -> None:
    def runs(entry: Entry) -> bool:
        return stat.S_ISREG(entry.mode) and bool(entry.mode & 0o111)

    binaries = {e.path for e in entries if runs(e) and e.head.startswith("\x7fELF") and ".so" not in e.path}
    assert binaries == {"usr/bin/python3.13"}
    scripts = {e.path: e.head.splitlines()[0] for e in entries if runs(e) and e.path.startswith(PROGRAMS)}
    scripts.pop("usr/bin/python3.13")
    assert set(scripts.values()) == {"#!/opt/venv/bin/python"}


def test_hardened_has_no_file_that_raises_privileges(entries: list[Entry]) -> None:
    assert [e.path for e in entries if stat.S_ISREG(e.mode) and e.mode & (stat.S_ISUID | stat.S_ISGID)] == []


def test_hardened_files_belong_to_root_and_only_temporary_folders_are_writable(entries: list[Entry]) -> None:
    # the visiting container's own mount points are not in this image
    assert [e.path for e in entries if e.uid != 0] == []
    writable = [e for e in entries if not stat.S_ISLNK(e.mode) and e.mode & stat.S_IWOTH]
    assert {e.path for e in writable} <= {"tmp", "var/tmp", "var/lock", "run/lock"}
    assert all(stat.S_ISDIR(e.mode) and e.mode & stat.S_ISVTX for e in writable)


def test_hardened_user_has_no_home(entries: list[Entry]) -> None:
    assert not any(e.path.startswith(("nonexistent", "home/")) for e in entries)


def test_hardened_keeps_licences_and_package_records(entries: list[Entry]) -> None:
    paths = {e.path for e in entries}
    for package in ("libc6", "libpython3.13-minimal", "libssl3t64"):
        assert f"var/lib/dpkg/status.d/{package}" in paths
        assert f"usr/share/doc/{package}/copyright" in paths


def test_hardened_shares_every_heavy_blob_with_runtime(project: Project) -> None:
    @cache
    def blobs(stage: str) -> dict[str, str]:
        return {name: layer["digest"] for name, layer in project.builds[stage].layers.items()}

    own_names = {"runtime/xoe_runtime": "hardened/xoe_runtime"}  # the layer is named by its stage
    shared = {own_names.get(name, name): digest for name, digest in blobs("runtime").items() if name != "base/root"}
    own = {"hardened/root", "hardened/sbom"}
    assert {name: digest for name, digest in blobs("hardened").items() if name not in own} == shared


def test_hardened_is_smaller_than_runtime(project: Project, podman: Podman) -> None:
    sizes = {stage: sum(x["size"] for x in project.builds[stage].report["layers"]) for stage in ("runtime", "hardened")}
    print(f"compressed: {sizes}")
    assert sizes["hardened"] < 0.85 * sizes["runtime"]
    roots = podman.inspect(project.images["hardened"])["Size"], podman.inspect(project.images["runtime"])["Size"]
    assert roots[0] < roots[1]


def test_page_states_the_measured_root(entries: list[Entry]) -> None:
    page = (ROOT / "docs/hardened.md").read_text("utf-8")
    own = [e for e in entries if stat.S_ISREG(e.mode) and not e.path.startswith(("opt/venv/", "app/", "models/"))]
    (size, packages) = re.findall(r"\| size \| ([\d.]+) MB unpacked|\| packages \| (\d+);", page)
    assert sum(e.size for e in own) / 1e6 == pytest.approx(float(size[0]), abs=1)
    records = [e for e in own if e.path.startswith("var/lib/dpkg/status.d/") and not e.path.endswith(".md5sums")]
    assert len(records) == int(packages[1])
    kept = [e for e in own if e.path.startswith("usr/lib/python3.13/") and not e.path.endswith(".pyc")]
    assert f"{len(kept)} files of the standard library" in page
