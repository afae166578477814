"""`run-STAGE` and `up` of a project that asks for GPUs, on a host without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.build.gpu_grants import format_request
from buildkit.cli import run as run_session
from buildkit.cli import up as up_session
from buildkit.declare.gpu_request import GpuRequest
from buildkit.errors import BuildError
from buildkit.gpu.device import Gpus
from buildkit.gpu.host_devices import GpuHost
from buildkit.tools import podman, podman_objects
from tests.referencecopy import copy_reference

ROOT = Path(__file__).parents[2]
STAGE = "stages/hardened/stage.toml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This project, whose hardened stage asks for two GPUs."""
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.gpu_grants.find_gpu_host", lambda: GpuHost(gpus=Gpus(problem="no driver")))
    monkeypatch.setattr("buildkit.build.gpu_grants.find_held", lambda _host: ())
    folder = copy_reference(tmp_path / "project")
    with (folder / STAGE).open("a") as file:
        file.write('[gpu]\ncount = 2\nmemory = "8g"\n')
    with (folder / "services.toml").open("a") as file:
        file.write('[services.gpus]\nstage = "hardened"\n[environments.gpus]\nservices = ["gpus"]\n')
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is started or made, which nothing should be; images are there."""
    calls: list[object] = []
    monkeypatch.setattr(run_session.podman, "find_image_config", lambda _ref: {})
    monkeypatch.setattr("buildkit.services.start.find_image_ids", lambda refs: dict.fromkeys(refs, "a"))
    monkeypatch.setattr("buildkit.services.start.check_models", lambda _image, _models: None)
    for module, names in ((podman, ("start_detached", "ensure_network")), (podman_objects, ("create_network",))):
        for name in names:
            monkeypatch.setattr(module, name, lambda *given: calls.append(given))
    return calls


def test_run_and_up_start_nothing_and_say_why(project: Path, started: list[object]) -> None:
    for session, arguments in ((run_session, ("hardened",)), (up_session, ())):
        words = ("--no-build",) if arguments else ("gpus", "--no-build")
        with pytest.raises(BuildError, match="a GPU wanted, this host has none: no driver") as raised:
            session.run(project, *arguments, words)
        assert raised.value.exit_code == 1
        assert "wants 2 GPUs:" in raised.value.message
        assert raised.value.hint.startswith("nox -s gpus lists devices")
    assert started == []


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("print", "    --device=nvidia.com/gpu=1 \\"),
        ("compose", "      - nvidia.com/gpu=1"),
        ("docker-compose", "                - nvidia.com/gpu=1"),
        ("quadlet", "AddDevice=nvidia.com/gpu=1"),
    ],
)
def test_files_have_indices_there_and_warn(
    form: str, line: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_session.run(project, "hardened", (f"--{form}",)) == 0
    printed = capsys.readouterr()
    assert line in printed.out.splitlines()
    note = "xoe-hardened: nvidia.com/gpu=0, nvidia.com/gpu=1 may be another GPU there"
    assert f"# {note}" in printed.out
    assert f"warning: {note}" in printed.err


def test_cluster_gets_a_number_and_podmans_own_form_gets_names(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form, line in (("kubernetes", "nvidia.com/gpu: 2"), ("kube-play", "nvidia.com/gpu=1: 1")):
        assert up_session.run(project, ("gpus", f"--{form}")) == 0
        printed = capsys.readouterr()
        assert line in [text.strip() for text in printed.out.splitlines()]
        assert "warning: GPUs: " in printed.err


def test_request_by_device_is_said_in_words() -> None:
    assert format_request(GpuRequest(devices=("0", "1:0"))) == "the devices 0, 1:0"
    assert format_request(GpuRequest(devices=("0",))) == "the device 0"
