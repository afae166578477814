"""A bill of materials as CycloneDX 1.6 JSON (ECMA-424)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from buildkit.digest import canonical_json
from buildkit.supply.components import Bill, BillLayer, Component, Licence, Origin, PartFile, PartKind
from buildkit.supply.times import document_uuid, render_time

_TYPES = {
    PartKind.WHEEL: "library",
    PartKind.DEBIAN: "library",
    PartKind.MODEL: "machine-learning-model",
    PartKind.APPLICATION: "application",
    PartKind.IMAGE: "container",
}
_REFERENCES = {"sdist": "source-distribution", "wheel": "distribution", "source": "distribution"}


def render_cyclonedx(bill: Bill) -> bytes:
    """The document; equal bills give equal bytes. Its serial number is derived from all that it says."""
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": _metadata(bill),
        "components": [_component(part, bill) for part in bill.parts],
        "dependencies": list(_dependencies(bill)),
        "compositions": list(_compositions(bill)),
    }
    document["serialNumber"] = document_uuid(canonical_json(document)).urn
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _metadata(bill: Bill) -> dict[str, Any]:
    tool = {"type": "application", "name": "xoe-buildkit", "version": bill.maker}
    image: dict[str, Any] = {
        "type": "container",
        "bom-ref": _image_ref(bill),
        "name": bill.image,
        "version": bill.version,
        "properties": _properties((("arch", bill.arch), *_commit(bill), *_config(bill))),
        "components": [_layer(layer) for layer in bill.layers],
    }
    time = {"timestamp": render_time(bill.time)} if bill.time is not None else {}
    return {**time, "tools": {"components": [tool]}, "component": image, "lifecycles": [{"phase": "build"}]}


def _layer(layer: BillLayer) -> dict[str, Any]:
    """A layer as part of the image: a file for the one blob of most, and one for each blob of a registry's image."""
    said = (("layer:kind", layer.kind), ("layer:key", str(layer.key)))
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
    component: dict[str, Any] = {
        "type": "file", "bom-ref": _layer_ref(layer), "name": layer.name, "properties": _properties(said),
    }  # fmt: skip
    return {**component, "components": blobs} if blobs else component


def _component(part: Component, bill: Bill) -> dict[str, Any]:
    component: dict[str, Any] = {
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
    if part.kind is PartKind.APPLICATION and bill.commit:
        component["pedigree"] = {"commits": [{"uid": bill.commit}]}
    return {key: value for key, value in component.items() if value}


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


def _reference(origin: Origin) -> dict[str, Any]:
    hashes = {"hashes": [{"alg": "SHA-256", "content": origin.sha256.hex}]} if origin.sha256 else {}
    return {"type": _REFERENCES[origin.what], "url": origin.url, **hashes}


def _file(file: PartFile, part: Component) -> dict[str, Any]:
    hashes = {"hashes": [{"alg": "SHA-256", "content": file.sha256.hex}]} if file.sha256 else {}
    return {"type": "file", "bom-ref": f"{part.ref}:{file.path}", "name": file.path, **hashes}


def _dependencies(bill: Bill) -> Iterator[dict[str, Any]]:
    """The image needs all parts; a wheel those that the locks say it asked for."""
    yield {"ref": _image_ref(bill), "dependsOn": [part.ref for part in bill.parts]}
    for part in bill.parts:
        yield {"ref": part.ref, "dependsOn": list(part.needs)} if part.needs else {"ref": part.ref}


def _compositions(bill: Bill) -> Iterator[dict[str, Any]]:
    """How far this is complete: what a step or a registry's image brings beside packages no lock says."""
    known = [_layer_ref(layer) for layer in bill.layers if layer.known]
    others = [_layer_ref(layer) for layer in bill.layers if not layer.known]
    if known:
        yield {"aggregate": "complete", "assemblies": known}
    if others:
        yield {"aggregate": "incomplete", "assemblies": others}


def _commit(bill: Bill) -> tuple[tuple[str, str], ...]:
    if not bill.commit:
        return ()
    return ("commit", bill.commit), ("dirty", "true" if bill.dirty else "false")


def _config(bill: Bill) -> tuple[tuple[str, str], ...]:
    return (("image:config", str(bill.config)),) if bill.config else ()


def _properties(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": f"buildkit:{name}", "value": value} for name, value in pairs]


def _image_ref(bill: Bill) -> str:
    return f"image:{bill.image}"


def _layer_ref(layer: BillLayer) -> str:
    return f"layer:{layer.name}"
