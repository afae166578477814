"""A container mounts the image of its models in every format, and no format drops it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from buildkit.running.commands import render_command, render_commands
from buildkit.running.compose import render_compose, render_compose_environment
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import ContainerSpec, run_argv
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.mounts import ImageMount
from buildkit.running.quadlet import render_quadlet, render_quadlet_environment
from tests.running.test_environment import made

_MODELS = ImageMount(image="localhost/x/app-models:latest", target="/mnt/models", stage="app-models")
_FLAG = "--mount=type=image,source=localhost/x/app-models:latest,destination=/mnt/models"


def mounting(container: ContainerSpec) -> ContainerSpec:
    return replace(container, models=_MODELS)


def environment() -> RunningEnvironment:
    whole = made("production")
    services = tuple(
        replace(one, container=mounting(one.container)) if one.name == "app" else one for one in whole.services
    )
    return replace(whole, services=services)


def test_commands_and_units_mount_the_image() -> None:
    container = mounting(made("production").get("app").container)
    assert _FLAG in run_argv(container, "--detach")
    assert _FLAG in render_command(replace(container, networks=()))
    assert render_commands(environment()).count(_FLAG) == 1
    line = f"\n{_FLAG.removeprefix('--').replace('mount=', 'Mount=')}\n"
    assert any(line in text for _, text in render_quadlet(container))
    assert sum(line in text for _, text in render_quadlet_environment(environment())) == 1


def test_compose_mounts_the_image_and_says_who_can(tmp_path: Path) -> None:
    for number, text in enumerate(
        (render_compose_environment(environment()), render_compose(mounting(made("production").get("app").container)))
    ):
        assert text.startswith("# volumes of `type: image` need podman-compose")
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        tool = Path(sys.executable).with_name("check-jsonschema")
        argv = (tool, "--builtin-schema", "vendor.compose-spec", file)
        checked = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        services = YAML(typ="safe", pure=True).load(text)["services"].values()
        (mount,) = (one for service in services for one in service.get("volumes", ()) if isinstance(one, dict))
        assert mount == {"type": "image", "source": _MODELS.image, "target": "/mnt/models"}


def test_kubernetes_has_an_image_volume_and_says_since_when() -> None:
    text = render_kubernetes(environment())
    assert "# image volumes (models) need Kubernetes 1.33" in text
    objects = YAML(typ="safe", pure=True).load_all(text)
    (pod,) = (
        one["spec"]["template"]["spec"]
        for one in objects
        if one["kind"] in ("Deployment", "Job") and one["metadata"]["name"].endswith("-app")
    )
    image = {"reference": _MODELS.image, "pullPolicy": "IfNotPresent"}
    assert {"name": "models", "image": image} in pod["volumes"]
    (container,) = pod["containers"]
    assert {"name": "models", "mountPath": "/mnt/models", "readOnly": True} in container["volumeMounts"]
