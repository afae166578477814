"""Builds of the reference project, each by a nox process of its own, as a user starts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.context import cache_folder

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("base", "builder", "wheels", "ml-deps", "clients", "models", "runtime", "development", "hardened")
IMPORTED = {"BUILDKIT_DELIVERY": "import"}  # these tests mount images; podman mounts those of its own storage alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The report of a build, and its output."""

    report: dict[str, Any]
    output: str

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """Layers by name."""
        return {layer["name"]: layer for layer in self.report["layers"]}

    @property
    def built(self) -> set[str]:
        """Names of the layers that were built."""
        return {name for name, layer in self.layers.items() if layer["source"] == "built"}


def build(stage: str, cache: Path, *options: str, folder: Path = ROOT, **process: Any) -> Build:
    """Run ``nox -s build-STAGE`` at ``folder``; fails with its output. ``process`` goes to subprocess."""
    report = cache / f"report-{stage}.json"
    env = process.pop("env", dict(os.environ)) | {"BUILDKIT_CACHE": str(cache), **IMPORTED}
    argv = [sys.executable, "-m", "nox", "-s", f"build-{stage}", "--", "--json", str(report), *options]
    done = subprocess.run(
        argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **process
    )
    assert done.returncode == 0, done.stdout
    return Build(report=json.loads(report.read_text("utf-8")), output=done.stdout)


def run_json(cache: Path, session: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a session whose output is JSON; return its exit code and the value."""
    argv = [sys.executable, "-m", "nox", "-s", session, "--", *arguments]
    env = dict(os.environ) | {"BUILDKIT_CACHE": str(cache), **IMPORTED}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


def audit(cache: Path, stage: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Audit a stage's image at rest."""
    return run_json(cache, "audit", stage, "--at-rest", "--json", *options)


def make_cache(folder: Path, *, downloads: Path | None = None) -> Path:
    """Return a cache that holds only the downloads of another one (default: the user's); locks verify them again."""
    folder.mkdir()
    there = (downloads or cache_folder()) / "files"
    if there.is_dir():
        shutil.copytree(there, folder / "files")
    return folder


def shared_cache(factory: pytest.TempPathFactory) -> Path:
    """The cache of the tests of documentation and of this project, which run in one process: each layer is made once.

    It is not the user's: the commands remove what is in it, and its rows have the key of the suite.
    """
    folder = factory.getbasetemp() / "cache"
    return folder if folder.exists() else make_cache(folder)


def copy_project(folder: Path) -> Path:
    """Copy the files that git tracks, with their present content, into a repository of their own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def read_toml(path: str) -> dict[str, Any]:
    """A TOML file of the project."""
    return tomllib.loads((ROOT / path).read_text("utf-8"))


def read_pins(*names: str) -> dict[str, str]:
    """Version by name of every wheel that the locks ``requirements/NAME.wheels.toml`` hold."""
    held = [entry for name in names for entry in read_toml(f"requirements/{name}.wheels.toml")["artifact"]]
    return {entry["name"]: entry["version"] for entry in held}
