"""The images that ship, watched: a trace out of a closed network, and a profile made of the image's own model."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from buildkit.running.flags import NETWORK_OPTION
from buildkit.xoe_runtime.drift_profile import parse_profile
from tests.reference.builds import IMPORTED, ROOT, read_toml
from tests.reference.conftest import Project
from tests.reference.engine import Podman, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]

RECEIVER = """
import json, sys, time
sys.path.insert(0, "/receiver")
import receiver
from http.server import ThreadingHTTPServer
found = ThreadingHTTPServer.__init__
ThreadingHTTPServer.__init__ = lambda self, address, handler: found(self, ("0.0.0.0", 4318), handler)
with receiver.receiving() as one:
    print("up", flush=True)
    while "POST /v1/speech" not in one.spans:  # it ends last
        time.sleep(0.1)
    print(json.dumps(sorted(one.spans)), flush=True)
"""


_CLIPS = 480  # enough for a reference of the signal with most bins


def write_tone(path: Path, number: int = 0) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(at / (3 + number % 7)))) for at in range(1600)))
    return path


def test_hardened_image_sends_its_spans_to_a_receiver_in_its_closed_network(
    project: Project, podman: Podman, tmp_path: Path
) -> None:
    network = f"xoe-traced-{os.getpid()}"
    closed = podman("network", "create", "--disable-dns", f"--opt={NETWORK_OPTION}", network, accept=(0, 125))
    if not closed:  # a podman that cannot close one: as `nox -s up` does then, with a warning
        podman("network", "create", "--disable-dns", network)
    tests = f"--volume={ROOT}/stages/development/tests:/receiver:ro"
    argv = ("run", "--detach", f"--network={network}", tests, project.images["development"])
    receiver = podman(*argv, "python", "-c", RECEIVER).strip()
    try:
        (about,) = json.loads(podman("container", "inspect", receiver))
        address = about["NetworkSettings"]["Networks"][network]["IPAddress"]
        env = (f"--env=OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}:4318", "--env=OTEL_TRACES_SAMPLER=always_on")
        with serving(podman, project.images["hardened"], f"--network={network}", *env) as service:
            service.wait()
            service.find_speech(write_tone(tmp_path / "tone.wav"))
            (said,) = wait_until(lambda: podman("logs", receiver).splitlines()[1:])
            log = podman("logs", service.container)
        assert json.loads(said) == ["POST /v1/speech", "answer", "decode", "infer", "receive"]
        assert "trace_id=" in log
    finally:
        podman("rm", "--force", "--time=0", receiver)
        podman("network", "rm", network)


def test_profile_is_made_by_the_image_from_files_of_the_host(project: Project, podman: Podman, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    for number in range(_CLIPS):
        write_tone(data / f"{number}.wav", number)
    output = tmp_path / "profile.json"
    argv = [sys.executable, "-m", "nox", "-s", "drift", "--", "profile", "runtime", str(data), "--output", str(output)]
    env = dict(podman.env) | {"BUILDKIT_CACHE": str(project.cache), **IMPORTED}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    profile = parse_profile(output.read_text())
    assert profile.signals["rate"].counts == (0, _CLIPS, 0)
    (model,) = read_toml("requirements/models.lock")["model"]
    assert [file["sha256"] for file in model["file"]] == [profile.sha256]


def test_the_profile_of_this_repository_is_of_the_model_that_is_locked(project: Project, podman: Podman) -> None:
    (path,) = (ROOT / "stages/runtime/app/profiles").glob("*.json")
    (model,) = read_toml("requirements/models.lock")["model"]
    assert [file["sha256"] for file in model["file"]] == [parse_profile(path.read_text()).sha256]
    with serving(podman, project.images["hardened"]) as service:
        service.wait()
        _, page = service.get("/metrics")
    (line,) = (one for one in page.decode().splitlines() if one.startswith("model_drift_profile_info{"))
    assert line.endswith(" 1.0")
