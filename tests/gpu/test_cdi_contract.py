"""What podman makes of CDI specifications, and what we say of the same files: the two agree."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from buildkit.doctor.diagnosis import DiagnosisStatus
from buildkit.doctor.facts import InstalledTool
from buildkit.doctor.gpu_checks import check_gpu_host
from buildkit.doctor.probe import probe_tool
from buildkit.gpu.device import Gpus
from buildkit.tools.cdi import find_cdi

pytestmark = pytest.mark.tools
ETC, RUN = "etc/cdi", "var/run/cdi"


def spec(version: str = "0.5.0", devices: str = "- {name: aa, containerEdits: {env: [A=b]}}") -> str:
    return f"cdiVersion: {version}\nkind: made.up/thing\ndevices:\n{devices}\n"


FINE = {
    "yaml": {f"{ETC}/a.yaml": spec()},
    "json": {f"{ETC}/a.json": '{"cdiVersion": "0.3.0", "kind": "made.up/thing", "devices": '
             '[{"name": "aa", "containerEdits": {"env": ["A=b"]}}]}'},
    "number as a name": {f"{ETC}/a.yaml": spec(devices="- {name: 10, containerEdits: {env: [A=b]}}\n"
                                               "- {name: aa, containerEdits: {env: [A=b]}}")},
    "a later folder wins": {f"{ETC}/a.yaml": spec(), f"{RUN}/b.yaml": spec()},
}  # fmt: skip
REFUSED = {
    "an ending that is ignored": {f"{ETC}/a.yml": spec()},
    "twice in a folder": {f"{ETC}/a.yaml": spec(), f"{ETC}/b.yaml": spec()},
    "twice in a file": {f"{ETC}/a.yaml": spec(devices="\n".join(["- {name: aa, containerEdits: {env: [A=b]}}"] * 2))},
    "a device without edits": {f"{ETC}/a.yaml": spec(devices="- {name: aa}")},
    "a device of empty edits": {f"{ETC}/a.yaml": spec(devices="- {name: aa, containerEdits: {}}")},
    "a version of the future": {f"{ETC}/a.yaml": spec("9.0.0")},
    "an unknown key": {f"{ETC}/a.yaml": spec(devices="- {name: aa, foo: 1, containerEdits: {env: [A=b]}}")},
    "a key of a later version": {
        f"{ETC}/a.yaml": spec(devices="- {name: aa, containerEdits: {env: [A=b], additionalGids: [1]}}")
    },
    "no YAML": {f"{ETC}/a.yaml": "devices: ["},
    "a device that the host lacks": {
        f"{ETC}/a.yaml": spec(devices="- {name: aa, containerEdits: {deviceNodes: [{path: /dev/not-there}]}}")
    },
}
SCRIPT = """
mkdir "$1/top" && mount -t tmpfs none "$1/top" && cd "$1/top" && mkdir upper work root graph
mount -t overlay -o lowerdir=/etc,upperdir=upper,workdir=work none /etc && mount -t tmpfs none /run || exit 77
printf '[storage]\\ndriver = "overlay"\\ngraphroot = "%s/graph"\\nrunroot = "/run/podman"\\n' "$PWD" > storage.conf
export CONTAINERS_STORAGE_CONF=$PWD/storage.conf
for case in "$1"/cases/*; do
    rm -rf /etc/cdi /run/cdi
    for folder in etc run; do
        mkdir /$folder/cdi
        find "$case" -path "*/$folder/cdi/*" -exec cp {} /$folder/cdi/ \\;
    done
    podman --cgroup-manager=cgroupfs run --rm --network=none --device=made.up/thing=aa --rootfs "$PWD/root" /no \\
        > "$case/said" 2>&1
done
true
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the files of every case, and what podman said of them in `said`."""
    if os.geteuid() != 0 or shutil.which("podman") is None:
        pytest.skip("podman reads only /etc/cdi, which this test covers in a mount namespace, as root")
    top = tmp_path_factory.mktemp("cdi")
    folders = {name: top / "cases" / str(number) for number, name in enumerate(FINE | REFUSED)}
    for name, files in (FINE | REFUSED).items():
        for path, text in files.items():
            (folders[name] / path).parent.mkdir(parents=True, exist_ok=True)
            (folders[name] / path).write_text(text)
    argv = ("unshare", "--mount", "--propagation=private", "bash", "-c", SCRIPT, "-", top)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted over /etc: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("name", FINE | REFUSED)
def test_podman_refuses_what_we_warn_of_and_nothing_else(name: str, cases: dict[str, Path]) -> None:
    said = (cases[name] / "said").read_text()
    assert said  # there is no program /no
    refused = "CDI devices" in said
    facts = (find_cdi(cases[name]), probe_tool("podman"), InstalledTool(name="nvidia-ctk"))
    found = [finding for finding in check_gpu_host(Gpus(problem="none"), *facts) if finding.id == "cdi"]
    warned = any(finding.status is DiagnosisStatus.WARNING for finding in found)
    assert (refused, warned) == ((name in REFUSED),) * 2, (said, found)
