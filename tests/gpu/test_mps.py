"""Who can share GPUs through MPS, who cannot and why, and what a client's environment says."""

from __future__ import annotations

import pytest

from buildkit.declare.gpu_request import MpsLimits
from buildkit.gpu.cdi_spec import CdiFile, CdiFiles, CdiSpec
from buildkit.gpu.device import Gpu, MigDevice
from buildkit.gpu.mps import (
    MpsClient,
    MpsHost,
    PipeFolder,
    client_variables,
    find_refusals,
    format_memory,
    has_control,
    keep_id,
    map_uid,
)

GPU = Gpu(index=0, uuid="GPU-a", capability="9.0", compute_mode="EXCLUSIVE_PROCESS")
CLIENTS = (MpsClient(name="a", uid=1000), MpsClient(name="b", uid=1000))
ROOTLESS = ((0, 1000, 1), (1, 100000, 65536))


def refused(clients: tuple[MpsClient, ...] = CLIENTS, **facts: object) -> list[str]:
    host = MpsHost(**{"gpus": (GPU,), "control": True, **facts})  # type: ignore[arg-type]
    return [refusal.what for refusal in find_refusals(clients, host)]


def test_what_can_share_is_not_refused() -> None:
    assert refused() == []
    unknown = Gpu(index=0, uuid="GPU-a")
    pipe = PipeFolder(path="/run/mps/pipe", parents=(("/run", 0o755),))
    assert refused(gpus=(unknown,), control=None, pipe=pipe) == []


def test_every_reason_is_said_at_once() -> None:
    mig = MigDevice(index=0, uuid="MIG-x", name="x")
    gpus = (
        Gpu(index=0, uuid="GPU-a", capability="6.1", compute_mode="DEFAULT"),
        Gpu(index=1, uuid="GPU-b", capability="9.0", mig=(mig,)),
        Gpu(index=2, uuid="GPU-c", capability="10.0", compute_mode="PROHIBITED"),
    )
    clients = (*CLIENTS, MpsClient(name="c", uid=7), MpsClient(name="d", uid=None))
    pipe = PipeFolder(path=f"/{'p' * 88}", parents=(("/srv", 0o700),))
    assert refused(clients, gpus=gpus, control=False, pipe=pipe) == [
        "GPU 0 (GPU-a) has compute capability 6.1, and MPS limits its clients from 7.0 (Volta)",
        (
            "GPU 0 (GPU-a) is in compute mode DEFAULT: "
            "a program that misses the daemon would run beside it, without limits"
        ),
        "GPU 1 (GPU-b) is divided by MIG, which MPS does not share",
        "GPU 2 (GPU-c) is in compute mode PROHIBITED: no program may use it",
        "d: the number of its user is not known",
        "MPS serves one user at a time, and these are several on the host (c: 7; a, b: 1000)",
        "no CDI specification has nvidia-cuda-mps-control, so containers lack it",
        f"/{'p' * 88} is too long for sockets in it: 88 bytes are the most",
        "/srv above MPS's folder has mode 0700: clients of containers cannot enter it",
    ]


def test_folder_that_every_container_gets_and_the_longest_one() -> None:
    assert "is given to every container" in refused(pipe=PipeFolder(path="/tmp/nvidia-mps/"))[0]
    assert refused(pipe=PipeFolder(path=f"/{'p' * 87}")) == []


def test_users_are_compared_as_the_host_sees_them() -> None:
    shifted = keep_id(1000, ROOTLESS)
    same_number = (MpsClient(name="a", uid=1000, uids=ROOTLESS), MpsClient(name="b", uid=1000, uids=shifted))
    assert refused(same_number) == [
        "MPS serves one user at a time, and these are several on the host (b: 1000; a: 100999)"
    ]
    assert refused((MpsClient(name="a", uid=0, uids=ROOTLESS), same_number[1])) == []
    assert refused((MpsClient(name="a", uid=70000, uids=ROOTLESS),)) == ["a: user 70000 is not mapped to the host"]


def test_keep_id_gives_one_user_the_hosts_and_moves_the_others_by_one() -> None:
    shifted = keep_id(3, ((0, 1000, 1), (1, 100000, 2), (3, 200000, 5)))
    assert [map_uid(uid, shifted) for uid in range(9)] == [
        100000, 100001, 200000, 1000, 200001, 200002, 200003, 200004, None,
    ]  # fmt: skip
    assert keep_id(0, ROOTLESS) == ROOTLESS
    assert keep_id(5, ()) == ()


@pytest.mark.parametrize(
    ("size", "written"), [("8g", "8G"), ("1536m", "1536M"), ("2048m", "2G"), ("1k", "1M"), ("5000000", "4M")]
)
def test_sizes_are_written_in_the_units_of_mps(size: str, written: str) -> None:
    assert format_memory(size) == written


def test_environment_of_a_client_limits_each_gpu_by_its_number_in_the_container() -> None:
    assert client_variables(MpsLimits(threads=50, memory="8g"), 2) == (
        ("CUDA_MPS_PIPE_DIRECTORY", "/run/mps/pipe"), ("CUDA_MPS_LOG_DIRECTORY", "/run/mps/log"),
        ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "50"), ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=8G,1=8G"),
    )  # fmt: skip
    assert dict(client_variables(MpsLimits(), 1)).keys() == {"CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"}


def test_control_program_is_looked_for_where_containers_get_it_from() -> None:
    def files(*needs: str, kind: str = "nvidia.com/gpu") -> CdiFiles:
        spec = CdiSpec(kind=kind, version="0.5.0", devices=("0",), needs=needs)
        return CdiFiles(files=(CdiFile(path="/etc/cdi/x.yaml", spec=spec),))

    assert has_control(files("/usr/bin/nvidia-cuda-mps-control"))
    assert has_control(files("/usr/bin/nvidia-smi")) is False
    assert has_control(files(kind="made.up/thing")) is None
    assert has_control(CdiFiles()) is None
