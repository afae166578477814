"""Render an SBOM as CycloneDX 1.6 JSON (ECMA-424)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from buildkit.digest import canonical_json
from buildkit.supply.components import (
    Component,
    ComponentAncestor,
    ComponentFile,
    ComponentKind,
    ComponentOrigin,
    Licence,
    Sbom,
    SbomLayer,
)
from buildkit.supply.document_identity import document_uuid, render_time

_TYPES = {
    ComponentKind.WHEEL: "library",
    ComponentKind.DEBIAN: "library",
    ComponentKind.MODEL: "machine-learning-model",
    ComponentKind.APPLICATION: "application",
    ComponentKind.IMAGE: "container",
    ComponentKind.PYTHON: "application",
}
_REFERENCES = {"sdist": "source-distribution", "wheel": "distribution", "source": "distribution"}


def render_cyclonedx(sbom: Sbom) -> bytes:
    """Return the document; equal SBOMs give equal bytes. Its serial number is derived from its content."""
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": _metadata(sbom),
        "components": [_component(part, sbom) for part in sbom.components],
        "dependencies": list(_dependencies(sbom)),
        "compositions": list(_compositions(sbom)),
    }
    document["serialNumber"] = document_uuid(canonical_json(document)).urn
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _metadata(sbom: Sbom) -> dict[str, Any]:
    tool = {"type": "application", "name": "xoe-buildkit", **({"version": sbom.maker} if sbom.maker else {})}
    image: dict[str, Any] = {
        "type": "container",
        "bom-ref": _image_ref(sbom),
        "name": sbom.image,
        "version": sbom.version,
        "properties": _properties((("arch", sbom.arch), *_commit(sbom), *_config(sbom))),
        "components": [_layer(layer) for layer in sbom.layers],
    }
    time = {"timestamp": render_time(sbom.time)} if sbom.time is not None else {}
    return {**time, "tools": {"components": [tool]}, "component": image, "lifecycles": [{"phase": "build"}]}


def _layer(layer: SbomLayer) -> dict[str, Any]:
    """Return a layer as a component of the image, with a file for each blob (one, or several for a registry image)."""
    pairs = (("layer:kind", layer.kind), ("layer:key", str(layer.key)))
    blobs = [
        {
            "type": "file",
            "bom-ref": f"blob:{layer.name}:{number}",
            "name": str(blob.digest),
            "hashes": [{"alg": "SHA-256", "content": blob.digest.hex}],
            "properties": _properties((("layer:diff-id", str(blob.diff_id)), ("layer:size", str(blob.size)))),
        }
        for number, blob in enumerate(layer.blobs)
    ]
    value: dict[str, Any] = {
        "type": "file", "bom-ref": _layer_ref(layer), "name": layer.name, "properties": _properties(pairs),
    }  # fmt: skip
    return {**value, "components": blobs} if blobs else value


def _component(part: Component, sbom: Sbom) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": _TYPES[part.kind],
        "bom-ref": part.ref,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "hashes": [{"alg": "SHA-256", "content": part.sha256.hex}] if part.sha256 else [],
        "licenses": _licences(part.licence),
        "externalReferences": [_reference(origin) for origin in part.origins],
        "components": [_file(file, part) for file in part.files],
        "properties": _properties(_notes(part)),
    }
    if part.kind is ComponentKind.APPLICATION and sbom.commit:
        value["pedigree"] = {"commits": [{"uid": sbom.commit}]}
    if part.ancestors:
        value["pedigree"] = {"ancestors": [_ancestor(one) for one in part.ancestors]}
    return {key: value for key, value in value.items() if value}


def _ancestor(ancestor: ComponentAncestor) -> dict[str, Any]:
    """Return a model that another was derived from; it is no part of the image."""
    value = {
        "type": _TYPES[ComponentKind.MODEL],
        "name": ancestor.name,
        "version": ancestor.version,
        "purl": ancestor.purl,
        "hashes": [{"alg": "SHA-256", "content": ancestor.sha256.hex}] if ancestor.sha256 else [],
    }
    return {key: item for key, item in value.items() if item}


def _notes(part: Component) -> Iterator[tuple[str, str]]:
    yield "kind", part.kind
    for place in part.places:
        yield "layer:name", place.layer
        if place.blob is not None:
            yield "layer:digest", str(place.blob.digest)
            yield "layer:diff-id", str(place.blob.diff_id)
    if part.licence.missing:
        yield "licence:missing", part.licence.missing
    yield from part.notes


def _licences(licence: Licence) -> list[dict[str, Any]]:
    if licence.expression:
        return [{"expression": licence.expression, "acknowledgement": "declared"}]
    return [{"license": {"name": name, "acknowledgement": "declared"}} for name in licence.names]


def _reference(origin: ComponentOrigin) -> dict[str, Any]:
    hashes = {"hashes": [{"alg": "SHA-256", "content": origin.sha256.hex}]} if origin.sha256 else {}
    return {"type": _REFERENCES[origin.what], "url": origin.url, **hashes}


def _file(file: ComponentFile, part: Component) -> dict[str, Any]:
    hashes = {"hashes": [{"alg": "SHA-256", "content": file.sha256.hex}]} if file.sha256 else {}
    return {"type": "file", "bom-ref": f"{part.ref}:{file.path}", "name": file.path, **hashes}


def _dependencies(sbom: Sbom) -> Iterator[dict[str, Any]]:
    """Yield dependencies: of the image on all components, of a wheel on its requirements according to the locks."""
    yield {"ref": _image_ref(sbom), "dependsOn": [part.ref for part in sbom.components]}
    for part in sbom.components:
        yield {"ref": part.ref, "dependsOn": list(part.needs)} if part.needs else {"ref": part.ref}


def _compositions(sbom: Sbom) -> Iterator[dict[str, Any]]:
    """State which layers are listed completely: no lock names the files that a step or a registry image adds."""
    known = [_layer_ref(layer) for layer in sbom.layers if layer.known]
    others = [_layer_ref(layer) for layer in sbom.layers if not layer.known]
    if known:
        yield {"aggregate": "complete", "assemblies": known}
    if others:
        yield {"aggregate": "incomplete", "assemblies": others}


def _commit(sbom: Sbom) -> tuple[tuple[str, str], ...]:
    if not sbom.commit:
        return ()
    return ("commit", sbom.commit), ("dirty", "true" if sbom.dirty else "false")


def _config(sbom: Sbom) -> tuple[tuple[str, str], ...]:
    return (("image:config", str(sbom.config)),) if sbom.config else ()


def _properties(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": f"buildkit:{name}", "value": value} for name, value in pairs]


def _image_ref(sbom: Sbom) -> str:
    return f"image:{sbom.image}"


def _layer_ref(layer: SbomLayer) -> str:
    return f"layer:{layer.name}"
