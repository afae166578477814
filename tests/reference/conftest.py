"""The service's stages, built once; podman; speech clips; and the segments found in them outside any container."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.containers import container_environment
from tests.reference.builds import IMPORTED, ROOT, Build, build, read_toml, shared_cache
from tests.reference.engine import Podman

SENTENCES = "This is a test of speech detection. <break time='900ms'/> It hears one voice. <break time='700ms'/> Bye."


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The reference project, built: builds and image ids by stage (another build may move a tag)."""

    cache: Path
    builds: Mapping[str, Build]
    images: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Clips, and the segments in each by the service's own code and by plain code, outside any container."""

    clips: tuple[Path, ...]
    app: Mapping[str, list[list[float]]]
    plain: Mapping[str, list[list[float]]]


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    if shutil.which("podman") is None:
        pytest.fail("podman is missing: ci/bootstrap nox -s tests installs it", pytrace=False)
    return Podman(env=os.environ | container_environment(tmp_path_factory.mktemp("podman")) | IMPORTED)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, podman: Podman) -> Project:
    cache = shared_cache(tmp_path_factory)
    images: dict[str, str] = {}

    def run(stage: str) -> Build:
        done = build(stage, cache)
        images[stage] = podman.inspect(f"{done.report['image']}@{done.report['digest']}")["Id"]
        return done

    builds = {"base": run("base")}
    others = ("ml-deps", "wheels", "clients", "models", "runtime", "hardened", "development")
    with ThreadPoolExecutor(1) as pool:  # two processes at once share the cache and the storage
        builder = pool.submit(run, "builder")
        builds |= {stage: run(stage) for stage in others}
        builds["builder"] = builder.result()
    return Project(cache=cache, builds=builds, images=images)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory, project: Project) -> Speech:
    folder = tmp_path_factory.mktemp("clips")
    speak(folder)
    model = extract_model(project.cache, tmp_path_factory.mktemp("model"))
    argv = [sys.executable, str(ROOT / "tests/reference/outside.py"), str(folder), str(model)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return Speech(clips=tuple(map(Path, found["clips"])), app=found["app"], plain=found["plain"])


def speak(folder: Path) -> Path:
    """Speech by a program, in ``spoken.wav``."""
    path = folder / "spoken.wav"
    subprocess.run(["espeak-ng", "-m", "-s", "150", "-w", str(path), SENTENCES], check=True)
    return path


def extract_model(cache: Path, folder: Path) -> Path:
    """The model out of the wheel that was downloaded, not out of an image."""
    (model,) = read_toml("requirements/models.lock")["model"]
    (file,) = model["file"]
    with zipfile.ZipFile(cache / "files" / model["wheel"]["sha256"] / model["wheel"]["file"]) as wheel:
        data = wheel.read(file["source"])
    assert hashlib.sha256(data).hexdigest() == file["sha256"]
    path = folder / file["path"]
    path.write_bytes(data)
    return path
