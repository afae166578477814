"""The CDI specifications of a host, in folders of a root of its own."""

import json
import os
from pathlib import Path

import pytest

from buildkit.gpu.cdi_spec import CdiFault, CdiFile, CdiFiles, CdiSpec
from buildkit.tools.cdi import find_cdi

SPEC = """
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
containerEdits:
  mounts:
  - hostPath: /lib/libcuda.so.580.1
    containerPath: /lib/libcuda.so.580.1
"""
NEEDS = ("/dev/nvidia0", "/lib/libcuda.so.580.1")


def write(root: Path, path: str, text: str) -> None:
    (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
    (root / path[1:]).write_text(text)


def test_host_without_folders_has_no_specification(tmp_path: Path) -> None:
    assert find_cdi(tmp_path) == CdiFiles()


def test_specifications_are_read_in_the_order_in_which_the_last_wins(tmp_path: Path) -> None:
    write(tmp_path, "/var/run/cdi/a.yaml", SPEC)
    write(
        tmp_path,
        "/etc/cdi/b.json",
        json.dumps({"cdiVersion": "0.6.0", "kind": "x.y/z", "devices": [{"name": "n", "containerEdits": {"env": []}}]}),
    )
    write(tmp_path, "/etc/cdi/README", "not one")
    write(tmp_path, "/dev/nvidia0", "")
    spec = CdiSpec(kind="nvidia.com/gpu", version="0.5.0", devices=("0",), needs=NEEDS)
    assert find_cdi(tmp_path).files == (
        CdiFile(path="/etc/cdi/b.json", spec=CdiSpec(kind="x.y/z", version="0.6.0", devices=("n",))),
        CdiFile(path="/var/run/cdi/a.yaml", spec=spec, missing=("/lib/libcuda.so.580.1",)),
    )


def test_files_that_podman_does_not_read_are_values(tmp_path: Path) -> None:
    write(tmp_path, "/etc/cdi/a.yml", SPEC)
    write(tmp_path, "/etc/cdi/b.yaml", "kind: [")
    (tmp_path / "etc/cdi/c.yaml").mkdir()
    faults = [(file.path, file.fault) for file in find_cdi(tmp_path).files]
    assert faults == [
        ("/etc/cdi/a.yml", CdiFault.IGNORED), ("/etc/cdi/b.yaml", CdiFault.MALFORMED),
        ("/etc/cdi/c.yaml", CdiFault.UNREADABLE),
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_closed_folder_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "etc/cdi").mkdir(parents=True, mode=0)
    [file] = find_cdi(tmp_path).files
    assert (file.path, file.fault, file.problem) == ("/etc/cdi", CdiFault.UNREADABLE, "Permission denied")


def test_only_the_hook_of_nvidia_is_one(tmp_path: Path) -> None:
    folder = "/usr/share/containers/oci/hooks.d"
    write(tmp_path, f"{folder}/oci-nvidia-hook.json", '{"hook": {"path": "/usr/bin/nvidia-container-toolkit"}}')
    write(tmp_path, f"{folder}/other.json", '{"hook": {"path": "/usr/bin/other"}}')
    assert find_cdi(tmp_path).hooks == (f"{folder}/oci-nvidia-hook.json",)
