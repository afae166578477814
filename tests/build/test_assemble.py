"""Assembling layers to an image."""

from __future__ import annotations

import json

import pytest

from buildkit.build.assemble import assemble
from buildkit.declare.stage import Config, Healthcheck
from buildkit.digest import Key
from buildkit.errors import DefinitionError
from buildkit.oci.blob import LayerResult
from tests.plan.planfakes import blob_of, spec_of

ROOT, LOW, HIGH = spec_of("root"), spec_of("low"), spec_of("high")


def test_image_has_all_blobs_of_layers_in_spec_order() -> None:
    made = {ROOT.key: LayerResult(blobs=(blob_of("1"), blob_of("2"))), LOW.key: LayerResult(blobs=(blob_of("3"),))}
    image = assemble((ROOT, LOW), Config(user="u"), made, "arm64")
    assert [(layer.blob, layer.history) for layer in image.layers] == [
        (blob_of("1"), "of root"), (blob_of("2"), "of root"), (blob_of("3"), "of low"),
    ]  # fmt: skip
    assert image.arch == "arm64"
    assert image.config == Config(user="u")


def brought(count: int) -> dict[Key, LayerResult]:
    """A registry's image of so many layers below one of ours."""
    return {
        ROOT.key: LayerResult(blobs=tuple(blob_of(str(n)) for n in range(count))),
        LOW.key: LayerResult(blobs=(blob_of("low"),)),
    }


def test_image_with_more_layers_than_containerd_allows_is_refused() -> None:
    assert len(assemble((ROOT, LOW), Config(), brought(126), "amd64").layers) == 127
    with pytest.raises(
        DefinitionError, match=r"^the image would have 128 layers, more than 127; root has 127$"
    ) as caught:
        assemble((ROOT, LOW), Config(), brought(127), "amd64")
    assert "fewer layers" in caught.value.hint


def test_project_setting_lowers_the_layer_limit() -> None:
    assert len(assemble((ROOT, LOW), Config(), brought(8), "amd64", most=9).layers) == 9
    with pytest.raises(DefinitionError, match=r"^the image would have 9 layers, more than 8; root has 8$"):
        assemble((ROOT, LOW), Config(), brought(8), "amd64", most=8)


def env_of(environment: dict[str, str], *brought: str) -> dict[str, str]:
    made = {ROOT.key: LayerResult(blobs=(), config=json.dumps({"Env": brought}))}
    return dict(assemble((ROOT,), Config(env=tuple(environment.items())), made, "amd64").config.env)


def test_stage_environment_overrides_that_of_a_registry_image() -> None:
    assert env_of({"A": "2"}, "A=1", "B=x=y", "C=") == {"A": "2", "B": "x=y", "C": ""}


def test_path_variable_of_a_registry_image_is_kept() -> None:
    assert env_of({"PATH": "/opt/venv/bin:$PATH"}, "PATH=/cuda/bin:/bin")["PATH"] == "/opt/venv/bin:/cuda/bin:/bin"
    assert env_of({"PATH": "$PATH"})["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert env_of({"PATH": "/only"}, "PATH=/cuda/bin")["PATH"] == "/only"
    assert "PATH" not in env_of({"A": "$PATH"})


INHERITED = {
    "Cmd": ["serve"], "Entrypoint": ["/entry"], "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}},
    "Labels": {"a": "1", "b": "1"},
    "StopSignal": "SIGQUIT", "User": "1234", "Volumes": {"/data": {}}, "WorkingDir": "/srv",
    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1},
}  # fmt: skip


def config_of(config: Config, *, only_env: bool = False) -> dict[str, object]:
    made = {ROOT.key: LayerResult(blobs=(), config=json.dumps(INHERITED))}
    image = assemble((ROOT,), config, made, "amd64", only_env=only_env)
    return json.loads(image.config_blob())["config"]


def test_config_of_a_registry_image_is_inherited() -> None:
    """A USER 1234 image must not run as root because of what is packed above it."""
    assert config_of(Config()) == INHERITED
    assert config_of(Config(), only_env=True) == {"Env": ["A=1"]}


def test_stage_config_is_laid_over_that_of_a_registry_image() -> None:
    own = Config(
        user="u", ports=("90",), volumes=("/more",), labels=(("b", "2"), ("c", "2")), workdir="/app",
        stop_signal="SIGTERM", healthcheck=Healthcheck(test=("x",)),
    )  # fmt: skip
    assert config_of(own) == INHERITED | {
        "ExposedPorts": {"80/tcp": {}, "90/tcp": {}}, "Labels": {"a": "1", "b": "2", "c": "2"}, "StopSignal": "SIGTERM",
        "User": "u", "Volumes": {"/data": {}, "/more": {}}, "WorkingDir": "/app",
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 30 * 10**9, "Timeout": 10**10, "StartPeriod": 0,
                        "Retries": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own", "entrypoint", "cmd"),
    [
        (Config(cmd=("x",)), ["/entry"], ["x"]),
        (Config(entrypoint=("e",)), ["e"], None),
        (Config(entrypoint=("e",), cmd=("x",)), ["e"], ["x"]),
    ],
)
def test_new_entrypoint_drops_the_inherited_command(own: Config, entrypoint: list[str], cmd: list[str] | None) -> None:
    config = config_of(own)
    assert (config.get("Entrypoint"), config.get("Cmd")) == (entrypoint, cmd)
