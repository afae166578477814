"""Collect the SBOM of a composition from what is known about its layers."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message

from buildkit.digest import Digest, FileHash, Key
from buildkit.layers.framework import MODULE, layer_texts
from buildkit.layers.root.installed import InstalledPackages
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import Artifact, Model
from buildkit.locks.requirements_txt import normalise_name
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import (
    BuildContainerfile,
    Compile,
    Kind,
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
from buildkit.supply.components import (
    Component,
    ComponentAncestor,
    ComponentFile,
    ComponentKind,
    ComponentLocation,
    ComponentOrigin,
    Licence,
    Sbom,
    SbomLayer,
)
from buildkit.supply.licences import licence_of_metadata, spdx_expression
from buildkit.supply.purl import pypi_purl, python_purl, render_purl
from buildkit.supply.root_components import root_components

NOT_AT_HAND = "its wheel is not at hand: build the stage here"
_READ_BACK = (Kind.IMAGE, Kind.CONTAINERFILE, Kind.RUN)  # no lock describes these layers completely


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomInputs:
    """The inputs of an SBOM besides the composition.

    ``results`` maps keys to the blobs of layers that were built at some time. ``installed`` is what was read back from
    all layers of the root, None if the cache lacks one of them. ``metadata`` finds the METADATA of a cached wheel,
    ``compiled`` the hash of a wheel that was compiled here. ``lock_parents`` lists the parents of each pin, by its name
    or path. ``commit``, ``dirty``, ``time``, ``config`` and ``maker`` are as in ``Sbom``; ``image`` and ``version`` are
    the project's.
    """

    image: str
    version: str
    arch: str
    maker: str
    results: Mapping[Key, LayerResult] = field(default_factory=dict)
    installed: InstalledPackages | None = None
    metadata: Callable[[Artifact, Compile | None, Spec], Message | None] = lambda _artifact, _compile, _spec: None
    compiled: Callable[[Key], FileHash | None] = lambda _key: None
    lock_parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    config: Digest | None = None
    commit: str = ""
    dirty: bool = False
    time: int | None = None


def collect(composition: Composition, facts: SbomInputs) -> Sbom:
    """Return the SBOM of a stage. Pure: equal inputs give equal SBOMs."""
    return collect_layers(composition.root, composition.layers, facts)


def collect_layers(root: tuple[Spec, ...], layers: tuple[Spec, ...], facts: SbomInputs) -> Sbom:
    """Return the SBOM of an image's root and of the layers above it."""
    components = list(root_components(root, facts.arch, facts.results, facts.installed))
    for spec in layers:
        blobs = facts.results[spec.key].blobs if spec.key in facts.results else ()
        blob = blobs[0] if blobs else None
        match spec.work:
            case PackWheels() as work:
                components += _wheels(spec, work, blob, facts)
            case PackModel() as work:
                components.append(_model(spec, work, blob))
            case PackFiles() as work:
                components.append(_application(spec, work, blob, facts))
            case PackPython(bytecode=False) as work:
                components.append(_python(spec, work, blob))
            case PackFramework() as work:
                components.append(_framework(spec, work, blob))
            case PackPython() | PackPrefix() | PackLinks() | PackServing() | PackSbom():
                pass  # made by buildkit from nothing of others
            case MakeRoot() | PullImage() | BuildContainerfile() | RunStep():
                raise AssertionError(f"{spec.name} belongs to a root")
    return Sbom(
        image=facts.image,
        version=facts.version,
        arch=facts.arch,
        layers=tuple(_layer(spec, facts) for spec in (*root, *layers)),
        components=_with_needs(_distinct(components), facts.lock_parents),
        maker=facts.maker,
        config=facts.config,
        commit=facts.commit,
        dirty=facts.dirty,
        time=facts.time,
    )


def _layer(spec: Spec, facts: SbomInputs) -> SbomLayer:
    result = facts.results.get(spec.key)
    known = spec.kind not in _READ_BACK
    return SbomLayer(name=spec.name, kind=spec.kind, key=spec.key, blobs=result.blobs if result else (), known=known)


def _wheels(spec: Spec, work: PackWheels, blob: Blob | None, facts: SbomInputs) -> list[Component]:
    compiled = {item.artifact.name: item for item in work.compiled}
    return [_wheel(spec, artifact, compiled.get(artifact.name), blob, facts) for artifact in work.wheels]


def _wheel(spec: Spec, artifact: Artifact, item: Compile | None, blob: Blob | None, facts: SbomInputs) -> Component:
    metadata = facts.metadata(artifact, item, spec)
    version = artifact.version or (str(metadata.get("Version", "")) if metadata else "")
    origins: tuple[ComponentOrigin, ...] = ()
    notes: list[tuple[str, str]] = []
    if item is None:
        sha256 = artifact.sha256
        notes.append(("file", artifact.file))
    else:
        sha256 = facts.compiled(item.key)
        notes.append(("compiled", str(item.key)))
        if artifact.path:
            notes.append(("path", artifact.path))
        elif artifact.git:
            origins = (ComponentOrigin(what="source", url=str(artifact.git), sha256=artifact.sha256),)
        else:
            origins = (ComponentOrigin(what="sdist", url=_distribution(artifact), sha256=artifact.sha256),)
    return Component(
        kind=ComponentKind.WHEEL,
        ref=pypi_purl(artifact.name, version, artifact.git),
        name=artifact.name,
        version=version,
        places=(ComponentLocation(layer=spec.name, blob=blob),),
        purl=pypi_purl(artifact.name, version, artifact.git),
        sha256=sha256,
        licence=licence_of_metadata(metadata) if metadata else Licence(missing=NOT_AT_HAND),
        origins=origins,
        notes=tuple(notes),
    )


def _distribution(artifact: Artifact) -> str:
    """Return the purl of a file of a project, without an index: indexes are settings, and no lock names one."""
    return render_purl("pypi", normalise_name(artifact.name), artifact.version, file_name=artifact.file)


def _python(spec: Spec, work: PackPython, blob: Blob | None) -> Component:
    archive, purl = work.archive, python_purl(work.archive)
    return Component(
        kind=ComponentKind.PYTHON,
        ref=purl,
        name="python",
        version=archive.version,
        places=(ComponentLocation(layer=spec.name, blob=blob),),
        purl=purl,
        licence=Licence(expression="Python-2.0"),
        origins=(ComponentOrigin(what="source", url=archive.url, sha256=archive.sha256),),
        notes=(("file", archive.file), ("build", archive.build)),
    )


def _model(spec: Spec, work: PackModel, blob: Blob | None) -> Component:
    model = work.model
    files = tuple(ComponentFile(path=posixpath.join(work.target, work.place(f)), sha256=f.sha256) for f in work.files)
    return Component(
        kind=ComponentKind.MODEL,
        ref=f"model:{spec.name}",
        name=spec.name.partition("/")[2],
        version=model.version,
        places=(ComponentLocation(layer=spec.name, blob=blob),),
        purl=render_purl("generic", model.name, model.version),
        licence=_model_licence(model),
        files=files,
        origins=_model_origins(work),
        notes=(("source", str(model.source)), *_derivation_notes(model)),
        ancestors=tuple(_ancestors(model)),
    )


def _derivation_notes(model: Model) -> Iterator[tuple[str, str]]:
    """Yield how a model was derived, and what its lock says was found of it; no time, which is of a machine."""
    if (derivation := model.derivation) is not None:
        yield from (("derived:tool", derivation.tool), ("derived:options", derivation.options))
        yield from ((f"derived:{name}", value) for name, value in derivation.report)


def _ancestors(model: Model) -> Iterator[ComponentAncestor]:
    while model.origin is not None:
        model = model.origin.source
        yield ComponentAncestor(
            name=model.name,
            version=model.version,
            purl=render_purl("generic", model.name, model.version),
            sha256=model.files[0].sha256 if len(model.files) == 1 else None,
        )


def _model_licence(model: Model) -> Licence:
    if expression := spdx_expression(model.license):
        return Licence(expression=expression)
    return Licence(names=(model.license,)) if model.license else Licence(missing="the models lock names none")


def _model_origins(work: PackModel) -> tuple[ComponentOrigin, ...]:
    model = work.model
    if model.wheel is not None:
        return (ComponentOrigin(what="wheel", url=_distribution(model.wheel), sha256=model.wheel.sha256),)
    if isinstance(model.source, UrlSource):
        return tuple(ComponentOrigin(what="source", url=f.source, sha256=f.sha256) for f in work.files)
    return ()


def _application(spec: Spec, work: PackFiles, blob: Blob | None, facts: SbomInputs) -> Component:
    target = work.copy.target
    files = tuple(
        ComponentFile(
            path=posixpath.normpath(posixpath.join(target, file.path)), sha256=None if file.link else file.sha256
        )
        for file in work.tree.files
    )
    commit = [("commit", facts.commit), ("dirty", "true" if facts.dirty else "false")] if facts.commit else []
    return Component(
        kind=ComponentKind.APPLICATION,
        ref=f"files:{spec.name}",
        name=spec.name,
        version=facts.commit + ("-dirty" if facts.dirty else ""),
        places=(ComponentLocation(layer=spec.name, blob=blob),),
        licence=Licence(missing="the repository's own files"),
        files=files,
        notes=(("path", work.tree.path), ("target", target), *commit),
    )


def _framework(spec: Spec, work: PackFramework, blob: Blob | None) -> Component:
    """Return the module that sets frameworks; its files tell its version, for it is a part of this program."""
    files = tuple(
        ComponentFile(path=posixpath.join(work.target, name), sha256=FileHash.of(text.encode()))
        for name, text in layer_texts(work.settings).items()
    )
    return Component(
        kind=ComponentKind.APPLICATION,
        ref=f"files:{spec.name}",
        name=MODULE,
        version="",
        places=(ComponentLocation(layer=spec.name, blob=blob),),
        licence=Licence(expression="Apache-2.0"),
        files=files,
        notes=(("target", work.target),),
    )


def _distinct(components: list[Component]) -> list[Component]:
    """Sort by ref. The same file in two layers is one component; a different file of that name gets its own ref."""
    found: dict[str, Component] = {}
    for part in sorted(components, key=lambda part: (part.kind, part.ref, part.places[0].layer)):
        other = found.get(part.ref)
        if other is not None and replace(other, places=part.places) == part:
            found[part.ref] = replace(other, places=other.places + part.places)
        else:
            ref = part.ref if other is None else f"{part.ref}#{part.places[0].layer}"
            found[ref] = replace(part, ref=ref)
    return [found[ref] for ref in sorted(found)]


def _with_needs(components: list[Component], via: Mapping[str, tuple[str, ...]]) -> tuple[Component, ...]:
    """Add the dependencies of wheels: a lock names the parents of every pin."""
    wheels = {part.name: part for part in components if part.kind is ComponentKind.WHEEL}
    paths = {dict(part.notes).get("path", ""): part.name for part in wheels.values()}
    needs: dict[str, set[str]] = {}
    for pin, parents in via.items():
        child = wheels.get(paths.get(pin, pin))
        for parent in parents if child is not None else ():
            if parent in wheels and child is not None:
                needs.setdefault(wheels[parent].ref, set()).add(child.ref)
    return tuple(replace(part, needs=tuple(sorted(needs.get(part.ref, ())))) for part in components)
