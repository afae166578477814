"""Findings about MPS, from facts alone."""

from __future__ import annotations

import dataclasses

import pytest

from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus
from buildkit.doctor.facts import HostFacts
from buildkit.doctor.mps_checks import check_mps
from buildkit.gpu.cdi_spec import CdiFile, CdiFiles, CdiSpec
from buildkit.gpu.device import Gpu, Gpus, MigDevice
from buildkit.gpu.mps import PipeFolder
from buildkit.gpu.mps_host import MpsDaemon, MpsHost
from tests.doctor.test_doctor_checks import HEALTHY

CONTROL = "/usr/bin/nvidia-cuda-mps-control"
PIPE = PipeFolder(path="/run/mps/pipe", parents=(("/", 0o755), ("/run", 0o755), ("/run/mps", 0o755)))
DAEMON = MpsDaemon(pid=7, uid=1000, pipe=PIPE)
HIDDEN = dataclasses.replace(DAEMON, pipe=PipeFolder(path="/a/b", parents=(("/a", 0o700),)))
GPU = Gpu(index=0, uuid="GPU-a", compute_mode="EXCLUSIVE_PROCESS")


def facts(gpu: Gpu | None = GPU, mps: MpsHost | None = None, *needs: str) -> HostFacts:
    spec = CdiSpec(kind="nvidia.com/gpu", version="0.5.0", devices=("0",), needs=needs or (CONTROL,))
    cdi = CdiFiles(files=(CdiFile(path="/etc/cdi/nvidia.yaml", spec=spec),))
    gpus = Gpus(devices=(gpu,) if gpu else ())
    return dataclasses.replace(HEALTHY, gpus=gpus, cdi=cdi, mps=mps or MpsHost(uid=1000))


def only(found: HostFacts) -> Diagnosis:
    (one,) = check_mps(found)
    assert one.id == "mps"
    assert bool(one.cost) is (one.status is not DiagnosisStatus.OK)
    return one


def test_hosts_without_gpus_and_gpus_that_nobody_shares_have_no_finding() -> None:
    assert list(check_mps(facts(None))) == []
    assert list(check_mps(facts(dataclasses.replace(GPU, compute_mode="DEFAULT")))) == []
    assert only(facts()).status is DiagnosisStatus.OK
    assert only(facts(mps=MpsHost(uid=1000, daemons=(DAEMON,)))).status is DiagnosisStatus.OK


def test_compute_modes_in_which_limits_do_not_hold() -> None:
    prohibited = only(facts(dataclasses.replace(GPU, compute_mode="PROHIBITED")))
    assert (prohibited.cost, prohibited.mend) == (
        "no program may use it", "sudo nvidia-smi --id=GPU-a --compute-mode=DEFAULT",
    )  # fmt: skip
    beside = only(facts(dataclasses.replace(GPU, compute_mode="DEFAULT"), MpsHost(uid=1000, daemons=(DAEMON,))))
    assert beside.what == "GPU 0 (GPU-a) is in compute mode DEFAULT, and a daemon of MPS runs"
    assert beside.mend == "sudo nvidia-smi --id=GPU-a --compute-mode=EXCLUSIVE_PROCESS"
    divided = only(facts(dataclasses.replace(GPU, mig=(MigDevice(index=0, uuid="MIG-x", name="x"),))))
    assert divided.status is DiagnosisStatus.NOTE


@pytest.mark.parametrize(
    ("mps", "needs", "what"),
    [
        (MpsHost(uid=1000, default_pipe=True), (CONTROL,), "/tmp/nvidia-mps exists, and nvidia-ctk gives it"),
        (MpsHost(uid=1000), (CONTROL, "/tmp/nvidia-mps"), "/tmp/nvidia-mps exists, and /etc/cdi/nvidia.yaml gives it"),
        (MpsHost(uid=1001, daemons=(DAEMON,)), (CONTROL,),
         "the daemon of MPS on this host (process 7) is that of user 1000"),
        (MpsHost(uid=1000, daemons=(HIDDEN,)), (CONTROL,), "/a above MPS's folder has mode 0700"),
        (MpsHost(uid=1000, daemons=(DAEMON,), shm=0o755), (CONTROL,), "/dev/shm has mode 0755"),
        (MpsHost(uid=1000, daemons=(DAEMON,), shm=None), (CONTROL,), "/dev/shm is missing"),
        (MpsHost(uid=1000), ("/usr/bin/nvidia-smi",), "no CDI specification has nvidia-cuda-mps-control"),
    ],
)  # fmt: skip
def test_each_obstacle_is_one_finding_with_a_command(mps: MpsHost, needs: tuple[str, ...], what: str) -> None:
    found = only(facts(GPU, mps, *needs))
    assert found.what.startswith(what)
    assert found.mend
    assert "\n" not in found.mend


def test_daemon_of_root_serves_everybody() -> None:
    root = MpsHost(uid=1000, daemons=(dataclasses.replace(DAEMON, uid=0, pipe=None),))
    assert only(facts(mps=root)).status is DiagnosisStatus.OK
