"""A bill of materials as SPDX 2.3 JSON (ISO/IEC 5962)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from buildkit.digest import FileHash, canonical_json
from buildkit.supply.components import Bill, BillLayer, Component, Licence, PartFile, PartKind, Place
from buildkit.supply.times import document_uuid, render_time

NOTHING = "NOASSERTION"
_PURPOSES = {
    PartKind.WHEEL: "LIBRARY",
    PartKind.DEBIAN: "LIBRARY",
    PartKind.MODEL: "OTHER",
    PartKind.APPLICATION: "APPLICATION",
    PartKind.IMAGE: "CONTAINER",
}
_IMAGE = "SPDXRef-Image"
_CONTAINS, _DEPENDS_ON = "CONTAINS", "DEPENDS_ON"


def render_spdx(bill: Bill) -> bytes:
    """The document; equal bills give equal bytes. SPDX asks for a time: 1970 where there is no honest one.

    Files are packages of their own, for SPDX's files must have a SHA-1.
    """
    words = _Words()
    packages = [_image(bill), *(p for layer in bill.layers for p in _layer(layer)), *_parts(bill, words)]
    document: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.image,
        "creationInfo": {
            "created": render_time(bill.time or 0),
            "creators": [f"Tool: xoe-buildkit-{bill.maker}"],
            "comment": _comment(bill),
        },
        "documentDescribes": [_IMAGE],
        "packages": packages,
        "relationships": list(_relationships(bill)),
    }
    if words.said:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": name, "name": text, "extractedText": text} for name, text in sorted(words.said.items())
        ]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bill.image)
    unique = document_uuid(canonical_json(document))
    document["documentNamespace"] = f"https://spdx.org/spdxdocs/{name}-{unique}"
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


class _Words:
    """Licences that SPDX has no name for, under names of our own."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def expression(self, licence: Licence) -> str:
        """What stands in ``licenseDeclared``."""
        if licence.expression:
            return licence.expression
        return " AND ".join(self._name(name) for name in licence.names) or NOTHING

    def _name(self, text: str) -> str:
        short = re.sub(r"[^A-Za-z0-9.]+", "-", text)[:40].strip("-")
        name = f"LicenseRef-{short}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.said[name] = text
        return name


def _image(bill: Bill) -> dict[str, Any]:
    said = f"commit {bill.commit}" + (", and files that differ from it" if bill.dirty else "") if bill.commit else ""
    purpose, config = "CONTAINER", [_checksum(FileHash(bill.config.hex))] if bill.config else []
    return _package(
        _IMAGE, bill.image, bill.version, purpose, checksums=config, sourceInfo=said, comment=f"arch: {bill.arch}"
    )


def _layer(layer: BillLayer) -> Iterator[dict[str, Any]]:
    says = f"layer of kind {layer.kind}, made by the recipe {layer.key}"
    says += "" if layer.known else "; what it holds beside packages is not listed"
    blobs = layer.blobs
    alone = [_checksum(FileHash(blobs[0].digest.hex))] if len(blobs) == 1 else []
    diff = f"; diff_id {blobs[0].diff_id}" if len(blobs) == 1 else ""
    yield _package(_layer_id(layer), layer.name, "", "ARCHIVE", checksums=alone, comment=f"{says}{diff}")
    for number, blob in enumerate(blobs if len(blobs) > 1 else ()):
        sums = [_checksum(FileHash(blob.digest.hex))]
        name = f"{layer.name} ({number + 1})"
        yield _package(_blob_id(layer, number), name, "", "ARCHIVE", checksums=sums, comment=f"diff_id {blob.diff_id}")


def _parts(bill: Bill, words: _Words) -> Iterator[dict[str, Any]]:
    for part in bill.parts:
        yield _part(part, words)
        for file in part.files:
            sums = [_checksum(file.sha256)] if file.sha256 else []
            yield _package(_file_id(part, file), file.path, "", "FILE", checksums=sums)


def _part(part: Component, words: _Words) -> dict[str, Any]:
    purl = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}
    notes = [f"{name}: {value}" for name, value in part.notes]
    notes += [f"{o.what}: {o.url}" + (f" {o.sha256}" if o.sha256 else "") for o in part.origins]
    notes += [f"layer: {place.layer}" + (f" {place.blob.digest}" if place.blob else "") for place in part.places]
    return _package(
        _part_id(part),
        part.name,
        part.version,
        _PURPOSES[part.kind],
        licenseDeclared=words.expression(part.licence),
        licenseComments=part.licence.missing,
        checksums=[_checksum(part.sha256)] if part.sha256 else [],
        externalRefs=[purl] if part.purl else [],
        downloadLocation=next((o.url for o in part.origins if o.url.startswith("https:")), NOTHING),
        comment="\n".join(notes),
    )


def _package(spdx_id: str, name: str, version: str, purpose: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    package = {
        "SPDXID": spdx_id,
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": purpose,
        "downloadLocation": NOTHING,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        **more,
    }
    return {"filesAnalyzed": False, **{key: value for key, value in package.items() if value}}


def _relationships(bill: Bill) -> Iterator[dict[str, str]]:
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)
    layers = {layer.name: layer for layer in bill.layers}
    for layer in bill.layers:
        yield _related(_IMAGE, _CONTAINS, _layer_id(layer))
        for number in range(len(layer.blobs) if len(layer.blobs) > 1 else 0):
            yield _related(_layer_id(layer), _CONTAINS, _blob_id(layer, number))
    refs = {part.ref: part for part in bill.parts}
    for part in bill.parts:
        yield from (_related(_holder(layers[at.layer], at, part), _CONTAINS, _part_id(part)) for at in part.places)
        yield from (_related(_part_id(part), _CONTAINS, _file_id(part, file)) for file in part.files)
        yield from (_related(_part_id(part), _DEPENDS_ON, _part_id(refs[need])) for need in part.needs)


def _holder(layer: BillLayer, place: Place, part: Component) -> str:
    """The layer, or that blob of several which holds the part."""
    if place.blob is None or len(layer.blobs) < 2 or part.kind is PartKind.IMAGE:  # an image is all of its blobs
        return _layer_id(layer)
    return _blob_id(layer, layer.blobs.index(place.blob))


def _comment(bill: Bill) -> str:
    unmade = sum(not layer.blobs for layer in bill.layers)
    return f"{unmade} of {len(bill.layers)} layers have no digest: they were never built here" if unmade else ""


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}


def _checksum(sha256: FileHash) -> dict[str, str]:
    return {"algorithm": "SHA256", "checksumValue": sha256.hex}


def _part_id(part: Component) -> str:
    return _id(part.kind, part.name, part.ref)


def _file_id(part: Component, file: PartFile) -> str:
    return _id("file", file.path, f"{part.ref}:{file.path}")


def _layer_id(layer: BillLayer) -> str:
    return _id("layer", layer.name, layer.name)


def _blob_id(layer: BillLayer, number: int) -> str:
    return _id("blob", layer.name, f"{layer.name}:{number}")


def _id(kind: str, name: str, unique: str) -> str:
    """An SPDX identifier: letters, digits, dots and hyphens; the hash keeps two names apart that differ elsewhere."""
    short = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[-60:]
    return f"SPDXRef-{kind}-{short}-{hashlib.sha256(unique.encode()).hexdigest()[:10]}"
