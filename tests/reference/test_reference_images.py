"""Content and config of the images, compared with the stage files and the locks."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from typing import Any

import pytest

from tests.reference.builds import STAGES, build, read_pins, read_toml
from tests.reference.conftest import Project
from tests.reference.engine import Entry, Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]

SECOND = 1_000_000_000
SITE = "opt/venv/lib/python3.13/site-packages"
LISTED = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
LINES = re.compile(
    r"nox > .*"
    r"|(?=.{8}  \S) *\S+  .+"  # a step: its phase, right-aligned in eight columns
    r"|[\w-]+: built|layer +size +seconds +why|\S.+ +(?:\d.*[kMG]?B) +.*s +.+|"  # the table
    r"|[\w-]+: (?:\d+ built, |nothing to build, |nothing changed, ).*"  # the last lines
    r"|localhost/\S+|sha256:[0-9a-f]{64}"
    r"|run it: nox -s run-\w+"
)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def dists(found: dict[str, str]) -> dict[str, str]:
    return {normalised(name): version for name, version in found.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_storage_holds_the_images_of_the_reports(project: Project, podman: Podman, stage: str) -> None:
    report, known = project.builds[stage].report, podman.inspect(project.images[stage])
    assert report["stage"] == stage
    assert report["image"] == f"localhost/xoe/{stage}:latest"
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"containers-storage:{project.images[stage]}"], capture_output=True, check=True
    )
    assert "sha256:" + hashlib.sha256(raw.stdout).hexdigest() == report["digest"]
    assert known["RootFS"]["Layers"] == [layer["diff_id"] for layer in report["layers"]]


def test_build_prints_only_steps_and_table(project: Project) -> None:
    for build_ in project.builds.values():
        strange = [line for line in build_.output.splitlines() if not LINES.fullmatch(line)]
        assert strange == []


def test_native_files_of_the_images_lack_nothing(project: Project) -> None:
    for stage, build_ in project.builds.items():
        assert "may not start" not in build_.output, stage


def test_stages_have_layers_of_each_other(project: Project) -> None:
    builds = project.builds
    others = {
        name: layer for name, layer in builds["development"].layers.items() if not name.startswith("development/")
    }
    assert {name: builds["runtime"].layers[name]["key"] for name in others} == {
        name: layer["key"] for name, layer in others.items()
    }
    assert set(builds["runtime"].layers) == {
        *builds["base"].layers, *builds["ml-deps"].layers, *builds["wheels"].layers, *builds["clients"].layers,
        *builds["models"].layers,
        "runtime/app", "runtime/xoe_runtime",
    }  # fmt: skip


def test_second_build_does_nothing(project: Project) -> None:
    again = build("runtime", project.cache)
    assert again.built == set()
    assert again.report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}
    assert {layer["source"] for layer in again.report["layers"]} == {"storage"}
    assert again.report["digest"] == project.builds["runtime"].report["digest"]
    assert "runtime: nothing changed" in again.output


@pytest.mark.parametrize("stage", ["runtime", "hardened"])
def test_image_config_equals_the_declared_one(project: Project, podman: Podman, stage: str) -> None:
    known, declared = podman.inspect(project.images[stage]), read_toml(f"stages/{stage}/stage.toml")
    wanted, config = declared["config"], known["Config"]
    assert config["User"] == wanted["user"]
    assert config["WorkingDir"] == wanted["workdir"]
    assert config["Cmd"] == wanted["cmd"]
    assert set(config["ExposedPorts"]) == {f"{port}/tcp" for port in wanted["ports"]}
    assert config["StopSignal"] == wanted["stop-signal"]
    env = dict(line.split("=", 1) for line in config["Env"])
    assert env.items() >= wanted["env"].items()
    assert env["PATH"].startswith("/opt/venv/bin:")
    health = wanted["healthcheck"]
    assert known["Healthcheck"] == {
        "Test": ["CMD", *health["test"]],
        "Interval": health["interval"] * SECOND,
        "Timeout": health["timeout"] * SECOND,
        "StartPeriod": health["start-period"] * SECOND,
        "Retries": health["retries"],
    }


@pytest.mark.parametrize("stage", STAGES)
def test_labels_describe_the_image(project: Project, podman: Podman, stage: str) -> None:
    about = read_toml("pyproject.toml")["project"]
    labels = podman.inspect(project.images[stage])["Config"]["Labels"]
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.title"] == f"xoe/{stage}"
    assert labels[f"{prefix}.description"] == read_toml(f"stages/{stage}/stage.toml")["summary"]
    assert labels[f"{prefix}.version"] == about["version"]
    assert labels[f"{prefix}.licenses"] == about["license"]


@pytest.mark.parametrize("stage", ["runtime", "hardened", "development"])
def test_history_names_the_content_of_each_layer(project: Project, podman: Podman, stage: str) -> None:
    known = podman.inspect(project.images[stage])
    lines = [entry["created_by"] for entry in known["History"]]
    assert len(lines) == len(known["RootFS"]["Layers"])
    assert all(lines)
    locks = ("api", "clients", "ml", "dev") if stage == "development" else ("api", "clients", "ml")
    words = re.split(r"(?:, |: )", "\n".join(lines).replace("\n", ", "))
    missing = {f"{name} {version}" for name, version in read_pins(*locks).items()} - set(words)
    assert missing == set()
    assert "model: silero-vad 6.2.3" in lines
    assert "files: stages/runtime/app → /app" in lines
    root = "hardened" if stage == "hardened" else "base"
    assert re.fullmatch(rf"Debian trixie: \d+ packages of requirements/{root}\.apt", lines[0])
    assert {entry["created"] for entry in known["History"]} == {"1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("stage", ["runtime", "hardened"])
def test_python_finds_every_pin(project: Project, podman: Podman, stage: str) -> None:
    assert dists(podman.python(project.images[stage], LISTED)) == read_pins("api", "clients", "ml")


def test_pip_lists_every_pin(project: Project, podman: Podman) -> None:
    mount = f"type=image,source={project.images['runtime']},destination=/image"
    pip = ("python", "-m", "pip", "list", "--path", f"/image/{SITE}", "--format=json", "--disable-pip-version-check")
    listed = json.loads(podman("run", "--rm", "--network=none", "--mount", mount, project.images["builder"], *pip))
    assert dists({entry["name"]: entry["version"] for entry in listed}) == read_pins("api", "clients", "ml")


@pytest.mark.parametrize(("stage", "lock"), [("wheels", "api"), ("ml-deps", "ml"), ("clients", "clients")])
def test_wheel_stages_hold_only_wheels(project: Project, podman: Podman, stage: str, lock: str) -> None:
    entries = podman.walk(project.images[stage], project.images["base"])
    assert {entry.path.split("/")[0] for entry in entries} - made_by_podman(entries) == {"opt"}
    assert all(entry.uid == 0 for entry in entries)
    infos = {entry.path for entry in entries if re.fullmatch(rf"{SITE}/[^/]+\.dist-info", entry.path)}
    found = [path.rpartition("/")[2].removesuffix(".dist-info").split("-") for path in infos]
    assert dists(dict(found)) == read_pins(lock)


def made_by_podman(entries: list[Entry]) -> set[str]:
    """Empty folders at the top: mount points that storage may add to a layer's first use."""
    parents = {entry.path.split("/")[0] for entry in entries if "/" in entry.path}
    return {entry.path for entry in entries if "/" not in entry.path} - parents


def test_models_image_holds_the_locked_files(project: Project, podman: Podman) -> None:
    code = (
        "import glob, hashlib, json, os; print(json.dumps({p: hashlib.sha256(open(p, 'rb').read()).hexdigest()"
        " for p in glob.glob('/image/**', recursive=True) if os.path.isfile(p)}))"
    )
    mount = f"--mount=type=image,source={project.images['models']},destination=/image"
    found = podman.python(project.images["runtime"], code, mount)
    locked: dict[str, Any] = {
        f"/image/models/{model['name']}/{file['path']}": file["sha256"]
        for model in read_toml("requirements/models.lock")["model"]
        for file in model["file"]
    }
    assert found == locked


def test_development_has_its_tools(project: Project, podman: Podman) -> None:
    code = (
        "import debugpy, jupyterlab, pytest, json, fastapi, onnxruntime;"
        "print(json.dumps([pytest.__version__, debugpy.__version__, jupyterlab.__version__]))"
    )
    pins = read_pins("dev")
    assert podman.python(project.images["development"], code) == [pins[n] for n in ("pytest", "debugpy", "jupyterlab")]
    assert set(podman.inspect(project.images["development"])["Config"]["ExposedPorts"]) == {
        "5678/tcp", "8000/tcp", "8888/tcp",
    }  # fmt: skip


def test_service_tests_pass_in_development(project: Project, podman: Podman) -> None:
    argv = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "/app/tests")
    output = podman("run", "--rm", "--network=none", "--user=0", project.images["development"], *argv)
    assert re.search(r"\b\d{2,} passed", output), output
    assert not re.search(r"skipped|failed|error", output.splitlines()[-1]), output


def test_builder_compiles_an_extension(project: Project, podman: Podman) -> None:
    code = (
        "import json, subprocess; print(json.dumps({name: subprocess.run([name, '--version'], capture_output=True)"
        ".returncode for name in ('cc', 'c++', 'cmake', 'ninja')}))"
    )
    assert podman.python(project.images["builder"], code) == {"cc": 0, "c++": 0, "cmake": 0, "ninja": 0}
