"""GPUs through the real binding of NVML, over a stand-in for NVIDIA's library."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from buildkit.gpu.device import Gpu, GpuProcess, Gpus, MigDevice, gpus_as_json
from buildkit.tools.gpu import find_gpus
from tests.nvmlstub import DRIVER, GB, ask, host, python

HOSTS = {
    "none": host(0),
    "one": host(1),
    "eight": host(8),
    "busy": host(1, "0.processes 4242 2000000000 77 -1", "0.graphics 900 5000", "0.reasons 0x25", "0.ecc-errors 3"),
    "mig": host(1, "0.mig 1", *(
        f"0:{slot}.{key}" for slot, uuid in ((0, "MIG-a"), (2, "MIG-b"))
        for key in (f"uuid {uuid}", "name NVIDIA H200 MIG 3g.71gb", f"memory {71 * GB} {70 * GB}")
    )),
    "empty mig": host(1, "0.mig 1"),
    "bare": f"{DRIVER}count 1\n0.name NVIDIA GB10\n0.uuid GPU-0\n",
    "forbidden": host(1, "0.processes !4", "0.graphics !4"),
    "lost": host(2, "1.handle !15"),
    "lost while asked": host(2, "1.temperature !15"),
    "mismatch": "init !18",
    "not loaded": "init !9",
    "no answer": f"{DRIVER}count !999",
}  # fmt: skip
IDLE = {
    "name": "NVIDIA H200", "memory": 150 * GB, "free": 140 * GB, "capability": "9.0", "ecc": True, "ecc_errors": 0,
    "processes": (), "throttled": (), "temperature": 41, "power": 120.5, "compute_mode": "DEFAULT",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gpus]:
    return ask(tmp_path_factory.mktemp("hosts"), HOSTS)


def test_gpus_have_everything_that_nvml_says(found: dict[str, Gpus]) -> None:
    h200 = Gpu(index=0, uuid="GPU-0", **IDLE)
    assert found["one"] == Gpus(devices=(h200,), driver="580.65.06", cuda="13.0", driver_found=True)
    assert [gpu.uuid for gpu in found["eight"].devices] == [f"GPU-{index}" for index in range(8)]
    assert found["none"] == Gpus(driver="580.65.06", cuda="13.0", driver_found=True)


def test_processes_throttling_and_ecc_errors_are_read(found: dict[str, Gpus]) -> None:
    [gpu] = found["busy"].devices
    assert gpu.processes == (
        GpuProcess(pid=77, memory=None), GpuProcess(pid=900, memory=5000), GpuProcess(pid=4242, memory=2 * GB),
    )  # fmt: skip
    assert gpu.throttled == ("power cap", "temperature")
    assert gpu.ecc_errors == 3


def test_mig_devices_keep_the_index_by_which_cdi_names_them(found: dict[str, Gpus]) -> None:
    name = "NVIDIA H200 MIG 3g.71gb"
    assert found["mig"].devices[0].mig == (
        MigDevice(index=0, uuid="MIG-a", name=name, memory=71 * GB, free=70 * GB),
        MigDevice(index=2, uuid="MIG-b", name=name, memory=71 * GB, free=70 * GB),
    )
    assert found["empty mig"].devices[0].mig == ()
    assert found["one"].devices[0].mig is None


def test_what_a_gpu_does_not_report_is_absent(found: dict[str, Gpus]) -> None:
    bare = Gpu(index=0, uuid="GPU-0", name="NVIDIA GB10")
    assert found["bare"].devices == (bare,)
    plain = {"index": 0, "uuid": "GPU-0", "name": "NVIDIA GB10", "problem": ""}
    assert gpus_as_json(found["bare"])["devices"] == [plain]
    assert found["forbidden"].devices[0].processes is None


def test_lost_gpu_is_a_value_and_hides_no_other(found: dict[str, Gpus]) -> None:
    assert found["lost"].devices == (Gpu(index=0, uuid="GPU-0", **IDLE), Gpu(index=1, problem="GPU is lost"))
    [first, second] = found["lost while asked"].devices
    assert first == Gpu(index=0, uuid="GPU-0", **IDLE)
    assert second == Gpu(index=1, uuid="GPU-1", name="NVIDIA H200", problem="GPU is lost")


def test_missing_driver_differs_from_failing_driver(found: dict[str, Gpus]) -> None:
    assert found["mismatch"] == Gpus(problem="RM has detected an NVML/RM version mismatch.", driver_found=True)
    assert (found["not loaded"].driver_found, found["not loaded"].devices) == (False, ())
    assert (found["no answer"].driver_found, found["no answer"].problem) == (True, "Unknown Error")


def test_missing_binding_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus() == Gpus(problem="the package nvidia-ml-py is not installed: pip install 'xoe-buildkit[gpu]'")


def test_this_machine_answers() -> None:
    assert isinstance(find_gpus(), Gpus)


_MEASURE = """
import dataclasses, json, os, sys
from buildkit.tools.gpu_meter import open_gpu_meter
os.environ["NVML_STUB"] = sys.argv[1]
with open_gpu_meter(health=bool(os.environ.get("HEALTH"))) as measure:
    import pynvml
    for path in sys.argv[1:]:
        os.environ["NVML_STUB"] = path
        pynvml.nvmlInit()  # the stand-in reads the next description
        print(json.dumps([dataclasses.asdict(use) for use in measure()]))
"""


def measure(folder: Path, *hosts: str) -> list[list[dict[str, Any]]]:
    """What the meter says look by look, of a host that changes between them."""
    paths = [folder / f"look-{number}" for number in range(len(hosts))]
    for path, text in zip(paths, hosts, strict=True):
        path.write_text(text)
    done = python(_MEASURE, *paths)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_meter_says_who_uses_how_much_from_look_to_look(tmp_path: Path) -> None:
    busy = ("0.busy 90", f"0.processes 11 {GB} 12 -1", "0.process-busy 1000 11 75")
    first, same, later, lost, gone = measure(
        tmp_path,
        host(2, *busy),
        host(2, *busy),
        host(2, "0.busy 20", f"0.processes 11 {GB}", "0.process-busy 2000 11 5"),
        host(2, "0.handle !15"),
        host(0, "count !15"),
    )
    gpu, idle = first
    assert (gpu["utilisation"], gpu["memory"], gpu["total"]) == (0.9, 10 * GB, 150 * GB)
    assert gpu["processes"] == [
        {"pid": 11, "memory": GB, "utilisation": 0.75},
        {"pid": 12, "memory": None, "utilisation": 0.0},
    ]
    assert (idle["utilisation"], idle["processes"]) == (None, [])
    assert same[0]["processes"][0] == {"pid": 11, "memory": GB, "utilisation": None}, "nothing computed since"
    assert later[0]["processes"] == [{"pid": 11, "memory": GB, "utilisation": 0.05}]
    assert (lost[0]["problem"], lost[1]["problem"]) == ("GPU is lost", "")
    assert [use["uuid"] for use in (*lost, *gone)] == ["GPU-0", "GPU-1"] * 2, "an alert must know which"
    assert [use["problem"] for use in gone] == ["the driver does not answer: GPU is lost"] * 2


def test_meter_of_a_host_without_gpus_says_nothing(tmp_path: Path) -> None:
    assert measure(tmp_path, host(0)) == [[]]


def test_meter_tells_of_health_and_of_errors_since_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTH", "1")
    ecc = ("0.ecc-errors 3", "0.other-errors 7")
    calm, sick, lost, back = measure(
        tmp_path,
        host(2, "0.xid 31", *ecc),
        host(2, "0.xid 79", "0.temperature 95", *ecc),
        host(2, "0.handle !15", "0.xid 79"),
        host(2, "0.xid 79", *ecc),
    )
    about = {"name": "NVIDIA H200", "power": 120.5, "corrected": 7, "uncorrected": 3}
    assert calm[0]["health"] == {**about, "temperature": 41, "xid": 0}, "what was before is no news"
    assert sick[0]["health"] == {**about, "temperature": 95, "xid": 79}
    assert (lost[0]["problem"], lost[1]["health"]["temperature"]) == ("GPU is lost", 41)
    assert back[0]["health"]["xid"] == 79
    assert calm[1]["health"]["xid"] is None, "this one has no such events"
    monkeypatch.delenv("HEALTH")
    ((plain,),) = measure(tmp_path, host(1, "0.xid 31"))
    assert set(plain["health"].values()) == {None, ""}


_HANG = """
import dataclasses, json, os, sys, threading
from pathlib import Path
from buildkit.tools.gpu_meter import open_gpu_meter
description, hangs, *texts = map(Path, sys.argv[1:])
hung, well, changed = (text.read_text() for text in texts)
os.environ["NVML_STUB"] = str(description)
description.write_text(hung)
def say(uses):
    print(json.dumps([dataclasses.asdict(use) for use in uses]))
def go_on(text):
    description.write_text(text)
    hangs.unlink()
    for thread in threading.enumerate():  # what was asked before has its answer now
        if thread is not threading.current_thread():
            thread.join()
with open_gpu_meter(first=0.2, patience=60) as measure:
    import pynvml
    say(measure())
    go_on(well)
    say(measure())
with open_gpu_meter(first=60, patience=0.2) as measure:
    say(measure())
    hangs.touch()
    description.write_text(hung)
    pynvml.nvmlInit()  # the stand-in reads it
    say(measure())
    say(measure())
    go_on(changed)
    uses = measure()
    while any(use.problem for use in uses):  # a busy machine
        uses = measure()
    say(uses)
    hangs.touch()
    description.write_text(hung)
    pynvml.nvmlInit()
    say(measure())
"""


def test_driver_that_hangs_costs_a_moment_and_shows_nothing_old(tmp_path: Path) -> None:
    """At the first look, later, and when the block ends; once it answers, it tells of now."""
    hangs = tmp_path / "hangs"
    hangs.touch()
    texts = (host(2, f"1.memory ~{hangs}"), host(2), host(2, f"0.memory {150 * GB} {130 * GB}"))
    paths = [tmp_path / str(number) for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    done = python(_HANG, tmp_path / "host", hangs, *paths)
    assert done.returncode == 0, done.stderr
    found = [
        [(use["uuid"], use["memory"], use["problem"]) for use in json.loads(line)] for line in done.stdout.splitlines()
    ]
    silent = "the driver does not answer: no answer within 0.2 s, and none so far"
    well = [("GPU-0", 10 * GB, ""), ("GPU-1", 10 * GB, "")]
    down = [("GPU-0", None, silent), ("GPU-1", None, silent)]
    now = [("GPU-0", 20 * GB, ""), ("GPU-1", 10 * GB, "")]
    assert found == [[("", None, silent)], well, well, down, down, now, down]


def test_query_of_a_driver_that_hangs_ends_with_a_problem(tmp_path: Path) -> None:
    description = tmp_path / "host"
    description.write_text(host(1, f"init ~{description}"))
    program = "from buildkit.tools.gpu import find_gpus\nprint(find_gpus(patience=0.2))"
    done = python(program, description=description)
    assert done.stdout.strip() == str(
        Gpus(problem="the driver does not answer: no answer within 0.2 s, and none so far", driver_found=True)
    )
