"""Which GPUs containers have, from podman's descriptions."""

from __future__ import annotations

from typing import Any

import pytest
from gpuhosts import divided, gpu, host, uuid

from buildkit.gpu.eligibility import HeldDevice
from buildkit.gpu.holders import holder_labels, parse_holders

HOST = host(gpu(0), gpu(1), divided(2))
MIG = (uuid(32, "MIG"), uuid(33, "MIG"))
RUN = ["podman", "run", "--detach"]


def described(command: list[str] | None = None, **more: Any) -> dict[str, Any]:
    config = {"CreateCommand": command, "Labels": more.pop("labels", None)}
    return {"Name": "his", "ImageName": "docker.io/library/img:latest", "Config": config, **more}


@pytest.mark.parametrize(
    ("command", "devices"),
    [
        ([*RUN, "--device", "nvidia.com/gpu=1", "img"], [uuid(1)]),
        ([*RUN, f"--device=nvidia.com/gpu={uuid(1)}", "img"], [uuid(1)]),
        ([*RUN, "--device", "nvidia.com/gpu=0", "--device", f"nvidia.com/gpu={uuid(0)}", "img"], [uuid(0)]),
        ([*RUN, "--device", "nvidia.com/gpu=2:1", "img"], [MIG[1]]),
        ([*RUN, "--device", "nvidia.com/gpu=all", "img"], [uuid(0), uuid(1), *MIG]),
        ([*RUN, "--device=/dev/nvidia1:/dev/nvidia1", "img"], [uuid(1)]),
        ([*RUN, "--gpus", "all", "img"], [uuid(0), uuid(1), *MIG]),
        ([*RUN, "--gpus=device=1", "img"], [uuid(1)]),
        ([*RUN, "--device=nvidia.com/gpu=9", "img"], []),
        ([*RUN, "img", "program", "--device", "nvidia.com/gpu=0"], []),
        ([*RUN, "img@sha256:aa", "--device=nvidia.com/gpu=0"], []),
        ([*RUN, "--name", "img2", "--device=nvidia.com/gpu=0", "registry:5000/x/img:1"], [uuid(0)]),
        ([*RUN, "img"], []),
        (None, []),
    ],
)
def test_command_tells_the_devices(command: list[str] | None, devices: list[str]) -> None:
    held = parse_holders([described(command)], HOST)
    assert sorted(one.uuid for one in held) == sorted(devices)
    assert {(one.container, one.share) for one in held} <= {("his", "")}


@pytest.mark.parametrize("key", ["PathOnHost", "PathInContainer"])
def test_nodes_tell_what_no_command_does(key: str) -> None:
    """So it is with `podman kube play`."""
    nodes = {"Devices": [{key: "/dev/nvidiactl"}, {key: "/dev/nvidia1"}]}
    held = parse_holders([described(["podman", "kube", "play", "x"], HostConfig=nodes)], HOST)
    assert [one.uuid for one in held] == [uuid(1)]


def test_labels_tell_how_a_device_is_shared_and_by_whom() -> None:
    labels = dict(holder_labels((uuid(0), uuid(1)), "mps"))
    labels |= {"org.xoe.buildkit.project": "x", "org.xoe.buildkit.environment": "dev"}
    held = parse_holders([described([*RUN, "--device=nvidia.com/gpu=all", "img"], labels=labels)], HOST)
    assert held == tuple(
        HeldDevice(uuid=uuid(number), container="his", share="mps", environment="x-dev") for number in (0, 1)
    )
