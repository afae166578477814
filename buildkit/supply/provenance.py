"""The SLSA provenance predicate (v1) of a stage. Pure: equal values give equal text.

``buildDefinition`` has the request and the inputs: the commit, the build arguments that were used, and every pin of the
locks with its digest.
``byproducts`` contain every recipe in full, under the digest that is its key, with the blobs built from it: the recipe
proves the key, and the key finds the layer.

Time and host are left out, so the same image from the same commit has the same provenance. The ``builder`` is
included, because it is the purpose of provenance.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from buildkit.digest import Key
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.oci.blob import LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.roots import find_apt_pins
from buildkit.plan.spec import (
    BuildContainerfile,
    MakeRoot,
    PackFiles,
    PackFramework,
    PackLinks,
    PackModel,
    PackPrefix,
    PackPython,
    PackSbom,
    PackServing,
    PackWheels,
    PullImage,
    RunStep,
    Spec,
)
from buildkit.supply.purl import image_purl, pypi_purl, python_purl, render_purl
from buildkit.supply.root_components import system_of

BUILD_TYPE = "https://xoe.io/buildkit/stage/v1"
LOCAL_BUILDER = "https://xoe.io/buildkit/local"
RECIPE_TYPE = "application/vnd.xoe.buildkit.recipe.v1+json"

_CREDENTIALS = re.compile(r"//[^/\s@]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCheckout:
    """The checkout: its commit (empty for none), whether files differ from it, and its public URL."""

    commit: str = ""
    dirty: bool = False
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """The builder: its URI, this project's version, and the URI of this run, empty for none."""

    id: str
    version: str
    run: str = ""


def make_provenance(
    composition: Composition,
    tools: Iterable[Spec],
    made: Mapping[Key, LayerResult],
    source: SourceCheckout,
    builder: Builder,
) -> dict[str, Any]:
    """Return the predicate. ``tools`` are the layers of the stage in which wheels were compiled, if any were.

    ``made`` has the results of at least the image's own layers.
    """
    metadata = {"invocationId": builder.run} if builder.run else {}
    others = tuple(tools)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "stage": composition.stage.name,
                "commit": source.commit or None,
                "dirty": source.dirty,
                **_arguments(composition),
            },
            "resolvedDependencies": [*_checkout(source), *resolved_dependencies(composition, others)],
        },
        "runDetails": {
            "builder": {"id": builder.id, "version": {"buildkit": builder.version}},
            "metadata": metadata,
            "byproducts": [*recipe_byproducts(composition, others, made)],
        },
    }


def resolved_dependencies(composition: Composition, tools: Iterable[Spec]) -> list[dict[str, Any]]:
    """Return the pins of the locks as resource descriptors sorted by name, with digests where the locks have them."""
    descriptors: dict[str, dict[str, Any]] = {}
    specs = (*composition.specs, *tools)
    named = [image for spec in specs if isinstance(spec.work, BuildContainerfile) for _, image in spec.work.images]
    for spec in (*specs, *named):
        for descriptor in _of(spec):
            descriptors[descriptor["name"]] = descriptor
    return [descriptors[name] for name in sorted(descriptors)]


def recipe_byproducts(
    composition: Composition, tools: Iterable[Spec], made: Mapping[Key, LayerResult], *, with_results: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield every recipe: of the image's layers, lowest first, of the wheels compiled for it, and of ``tools``.

    A recipe's digest is its key. With ``with_results``, layers of the image carry their digests and diff_ids.
    """
    seen: set[Key] = set()
    for spec in composition.specs:
        if spec.key not in seen:
            seen.add(spec.key)
            yield _recipe(spec.name, spec.kind, spec.recipe, spec.key, made[spec.key] if with_results else None)
    compiled = {item.key: item for spec in composition.specs for item in spec.compiled}
    for key, item in sorted(compiled.items()):
        yield _recipe(item.artifact.name, "compile", item.recipe, key)
    models = [spec.work.model for spec in composition.specs if isinstance(spec.work, PackModel)]
    for model in dict.fromkeys(models):
        yield from _derivations(model)
    for spec in tools:
        if spec.key not in seen:
            seen.add(spec.key)
            yield _recipe(spec.name, spec.kind, spec.recipe, spec.key)


def bare_url(url: str) -> str:
    """Return a URL without user, password, query and fragment; empty for text that is not a URL."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, host, parts.path, "", "")) if parts.scheme and host else ""


def find_builder(env: Mapping[str, str], version: str) -> Builder:
    """Return the builder by the variables that GitHub and GitLab set in jobs; `LOCAL_BUILDER` on other machines."""
    host, repository = env.get("GITHUB_SERVER_URL", ""), env.get("GITHUB_REPOSITORY", "")
    if env.get("GITHUB_ACTIONS") == "true" and host and repository:
        workflow = env.get("GITHUB_WORKFLOW_REF", "") or f"{repository}/actions"
        run = f"{host}/{repository}/actions/runs/{env.get('GITHUB_RUN_ID', '')}"
        return Builder(
            id=f"{host}/{workflow}", version=version, run=f"{run}/attempts/{env.get('GITHUB_RUN_ATTEMPT', '1')}"
        )
    if env.get("GITLAB_CI") == "true" and env.get("CI_PROJECT_URL"):
        runner = f"{env['CI_PROJECT_URL']}/-/runners/{env.get('CI_RUNNER_ID', '')}"
        return Builder(id=bare_url(runner), version=version, run=bare_url(env.get("CI_JOB_URL", "")))
    return Builder(id=LOCAL_BUILDER, version=version)


def _arguments(composition: Composition) -> dict[str, Any]:
    """Return the values of build arguments, by stage, without the credentials of URLs in them."""
    args = {
        stage: {name: _CREDENTIALS.sub("//", value) for name, value in pairs}
        for stage, pairs in composition.args.items()
    }
    return {"args": args} if args else {}


def _checkout(source: SourceCheckout) -> Iterator[dict[str, Any]]:
    if source.commit:
        url = bare_url(source.url)
        place = {"uri": f"git+{url}@{source.commit}"} if url else {}
        yield {"name": "checkout", "digest": {"gitCommit": source.commit}, **place}


def _of(spec: Spec) -> Iterator[dict[str, Any]]:
    match spec.work:
        case MakeRoot(pins=pins) as root:
            for pin in pins:
                yield _package(pin.name, pin.version, *system_of(root))
        case PullImage(ref=ref):
            digest = ref.rpartition("@sha256:")[2]
            yield {"name": ref, "uri": image_purl(ref, ""), "digest": {"sha256": digest}}
        case RunStep(run=run) as step:
            for pinned in find_apt_pins(run.command) or ():
                yield _package(*pinned.partition("=")[::2], system_of(step)[0])
        case PackWheels(wheels=wheels):
            yield from (_distribution(artifact) for artifact in wheels if artifact.sha256 is not None)
        case PackModel(model=model, files=files):
            yield from _model(model, files)
        case PackPython(archive=archive):
            yield {"name": archive.file, "uri": python_purl(archive), "digest": {"sha256": archive.sha256.hex}}
        case (
            BuildContainerfile()
            | PackPrefix()
            | PackFiles()
            | PackFramework()
            | PackLinks()
            | PackServing()
            | PackSbom()
        ):
            pass  # no lock pins what they pack


def _package(name: str, version: str, distribution: str, suite: str = "") -> dict[str, Any]:
    """Describe a Debian package, without a digest: locks name versions, and the archive signs the bytes."""
    purl = render_purl("deb", name, version, namespace=distribution, distro=suite)
    return {"name": f"{name}={version}", "uri": purl}


def _distribution(artifact: Artifact) -> dict[str, Any]:
    digest = {"sha256": artifact.sha256.hex} if artifact.sha256 else {}
    if git := artifact.git:
        digest["gitCommit"] = git.commit
    return {"name": artifact.file, "uri": pypi_purl(artifact.name, artifact.version, git), "digest": digest}


def _model(model: Model, files: Iterable[ModelFile]) -> Iterator[dict[str, Any]]:
    if model.wheel is not None:
        yield _distribution(model.wheel)
    yield from _model_files(model, files)
    if model.origin is not None:
        yield from _model(model.origin.source, model.origin.source.files)


def _model_files(model: Model, files: Iterable[ModelFile]) -> Iterator[dict[str, Any]]:
    for file in files:
        url = bare_url(file.source) if isinstance(model.source, UrlSource) else ""
        place = {"uri": url} if url else {}
        yield {"name": f"{model.name}/{file.path}", "digest": {"sha256": file.sha256.hex}, **place}


def _derivations(model: Model) -> Iterator[dict[str, Any]]:
    """Yield the recipe of a derived model, with what was found of it, and of those that it is derived from."""
    if model.origin is not None and model.derivation is not None:
        described = _recipe(model.name, "derive", model.origin.recipe, Key(model.origin.key.hex))
        yield {**described, "annotations": {"kind": "derive", "report": dict(model.derivation.report)}}
        yield from _derivations(model.origin.source)


def _recipe(name: str, kind: str, recipe: str, key: Key, result: LayerResult | None = None) -> dict[str, Any]:
    layers = [{"digest": str(blob.digest), "diff_id": str(blob.diff_id)} for blob in result.blobs] if result else []
    return {
        "name": name,
        "mediaType": RECIPE_TYPE,
        "digest": {"sha256": key.hex},
        "content": base64.b64encode(recipe.encode()).decode("ascii"),
        "annotations": {"kind": str(kind), **({"layers": layers} if result else {})},
    }
