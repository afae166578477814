"""The session `gpus`, over a stand-in for NVIDIA's library."""

import json
from pathlib import Path

from buildkit.gpu.device import Gpu, Gpus
from buildkit.report.gpu_tables import GPU_COLUMNS, gpu_rows
from tests.nvmlstub import host, python

PROGRAM = """
import sys
from pathlib import Path
from buildkit.cli import gpus
from buildkit.tools.cdi import find_cdi
gpus.find_cdi = lambda: find_cdi(Path(sys.argv[1]))
gpus.run(Path("."), sys.argv[2:])
"""
LOSE = """
import os, time
def lose(seconds):
    with open(os.environ["NVML_STUB"], "r+") as file:
        if (text := file.read()).startswith("0.handle"):
            raise SystemExit
        file.seek(0)
        file.write("0.handle !15\\n" + text)
time.sleep = lose
"""
SPEC = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n" + "".join(
    f"- {{name: '{name}', containerEdits: {{env: [A=b]}}}}\n" for name in "01"
)
MIG = ("1.mig 1", "1:0.uuid MIG-a", "1:0.name NVIDIA H200 MIG 3g.71gb", "1:0.memory 71000000000 70000000000")
BUSY = ("0.processes 4242 2000000000", "0.reasons 0x4")


def run(folder: Path, text: str, *arguments: str, before: str = "") -> str:
    description, spec = folder / "host", folder / "etc/cdi/nvidia.yaml"
    description.write_text(text)
    spec.parent.mkdir(parents=True)
    spec.write_text(SPEC)
    done = python(before + PROGRAM, folder, *arguments, description=description)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tables_show_gpus_mig_devices_specifications_and_what_is_wrong(tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in run(tmp_path, host(2, *MIG, *BUSY)).splitlines()]
    assert lines[0] == "driver 580.65.06, CUDA up to 13.0"
    assert lines[3] == "0 NVIDIA H200 GPU-0 140 GB 150 GB 9.0 41 °C 120 W 4242 (2.0 GB) slowed by power cap"
    assert lines[4] == "1 NVIDIA H200 GPU-1 140 GB 150 GB 9.0 41 °C 120 W MIG"
    assert lines[5] == "1:0 NVIDIA H200 MIG 3g.71gb MIG-a 70.0 GB 71.0 GB"
    assert lines[8] == "/etc/cdi/nvidia.yaml nvidia.com/gpu 0.5.0 0 1"
    text = "\n".join(lines)
    assert "/etc/cdi/nvidia.yaml lacks 1:0" in text
    assert "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml" in text


def test_watch_prints_what_has_changed_since(tmp_path: Path) -> None:
    text = run(tmp_path, host(1), "--watch", before=LOSE)
    assert text.count("driver 580.65.06") == 2
    first, second = text.split("driver 580.65.06")[1:]
    assert "GPU is lost" not in first
    assert "GPU 0 does not answer: GPU is lost" in second


def test_json_has_sizes_in_bytes_and_nothing_unknown(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, "count 1\ndriver 1.2\ncuda 12040\n0.uuid GPU-0\n0.memory 9 8\n", "--json"))
    assert found["devices"] == [{"index": 0, "uuid": "GPU-0", "name": "", "problem": "", "memory": 9, "free": 8}]
    assert (found["driver"], found["cuda"]) == ("1.2", "12.4")
    assert found["cdi"]["files"][0]["spec"]["devices"] == ["0", "1"]
    assert {finding["id"] for finding in found["findings"]} == {"gpu", "cdi"}


def test_lost_gpu_has_a_row_with_the_reason() -> None:
    [row] = gpu_rows(Gpus(devices=(Gpu(index=1, problem="GPU is lost"),)))
    assert len(row) == len(GPU_COLUMNS)
    assert (row[0], row[-1]) == ("1", "GPU is lost")
