"""Who can share GPUs through MPS, who cannot and why, and what a client's environment says."""

from __future__ import annotations

import pytest

from buildkit.declare.gpu_request import MpsLimits
from buildkit.gpu.cdi_spec import CdiFile, CdiFiles, CdiSpec
from buildkit.gpu.mps import (
    MpsClient,
    PipeFolder,
    check_pipe,
    check_users,
    client_variables,
    format_memory,
    has_control,
    keep_id,
    map_uid,
)

CLIENTS = (MpsClient(name="a", uid=1000), MpsClient(name="b", uid=1000))
ROOTLESS = ((0, 1000, 1), (1, 100000, 65536))


def refused(*clients: MpsClient) -> list[str]:
    return [refusal.what for refusal in check_users(clients)]


def test_clients_of_one_user_are_not_refused() -> None:
    assert refused(*CLIENTS) == []


def test_every_reason_is_said_at_once() -> None:
    assert refused(*CLIENTS, MpsClient(name="c", uid=7), MpsClient(name="d", uid=None)) == [
        "d: the number of its user is not known",
        "MPS serves one user at a time, and these are several on the host (c: 7; a, b: 1000)",
    ]


def test_users_are_compared_as_the_host_sees_them() -> None:
    shifted = keep_id(1000, ROOTLESS)
    same_number = (MpsClient(name="a", uid=1000, uids=ROOTLESS), MpsClient(name="b", uid=1000, uids=shifted))
    assert refused(*same_number) == [
        "MPS serves one user at a time, and these are several on the host (b: 1000; a: 100999)"
    ]
    assert refused(MpsClient(name="a", uid=0, uids=ROOTLESS), same_number[1]) == []
    assert refused(MpsClient(name="a", uid=70000, uids=ROOTLESS)) == ["a: user 70000 is not mapped to the host"]


def test_folder_that_clients_cannot_reach_is_refused_with_every_reason() -> None:
    fine = PipeFolder(path=f"/{'p' * 87}", parents=(("/", 0o755),))
    assert list(check_pipe(fine)) == []
    long = PipeFolder(path=f"/srv/{'p' * 84}", parents=(("/", 0o755), ("/srv", 0o700)))
    assert [(one.what, one.hint) for one in check_pipe(long)] == [
        (f"{long.path} is too long for sockets in it: 88 bytes are the most",
         "export CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe, and start the daemon again"),
        ("/srv above MPS's folder has mode 0700: clients of containers cannot enter it", "sudo chmod 0755 /srv"),
    ]  # fmt: skip
    (everybody,) = check_pipe(PipeFolder(path="/tmp/nvidia-mps/"))
    assert "is given to every container with a GPU" in everybody.what


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
