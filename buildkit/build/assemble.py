"""Assembles an image from layers and config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from buildkit.declare.stage import Config
from buildkit.declare.target import SYSTEM_PATH
from buildkit.digest import Key, canonical_json
from buildkit.errors import DefinitionError
from buildkit.oci.blob import LayerResult
from buildkit.oci.image import Image, Layer
from buildkit.oci.run_config import inherit_config
from buildkit.plan.spec import Spec

MOST_LAYERS = 127  # containerd refuses more


def assemble(
    specs: Iterable[Spec],
    config: Config,
    results: Mapping[Key, LayerResult],
    arch: str,
    *,
    most: int = MOST_LAYERS,
    only_env: bool = False,
) -> Image:
    """Return the image of ``specs``, lowest first; ``results`` has all their blobs. ``arch`` is Debian's name for it.

    It inherits the run config of a registry's image below; with ``only_env``, its environment alone.

    ``$PATH`` in the config's PATH stands for the PATH of the registry's image below, or for Debian's own. Raises
    DefinitionError for more than ``most`` layers, which cannot be checked before a registry's image is known.
    """
    pairs = [(spec, results[spec.key]) for spec in specs]
    layers = tuple(Layer(blob=blob, history=spec.history) for spec, result in pairs for blob in result.blobs)
    if len(layers) > most:
        raise _too_many_layers(pairs, len(layers), most)
    env: dict[str, str] = {}
    inherited: dict[str, Any] = {}
    for _, result in pairs:
        inherited = inherit_config(inherited, json.loads(result.config))
        env |= {name: value for name, _, value in (line.partition("=") for line in inherited.get("Env", ()))}
    path = env.get("PATH", SYSTEM_PATH)
    env |= config.env
    if "PATH" in env:
        env["PATH"] = env["PATH"].replace("$PATH", path)
    return Image(
        layers=layers,
        config=replace(config, env=tuple(env.items())),
        arch=arch,
        inherited="{}" if only_env else canonical_json(inherited),
    )


def _too_many_layers(pairs: Iterable[tuple[Spec, LayerResult]], count: int, most: int) -> DefinitionError:
    shares = [f"{spec.name} has {len(result.blobs)}" for spec, result in pairs if len(result.blobs) > 1]
    return DefinitionError(
        f"the image would have {count} layers, more than {most}" + "".join(f"; {share}" for share in shares),
        hint="start from an image of fewer layers, or raise `heavy`, or lower `bins`, in [tool.buildkit]",
    )
