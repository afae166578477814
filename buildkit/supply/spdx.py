"""Render an SBOM as SPDX 2.3 JSON (ISO/IEC 5962)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from buildkit.digest import FileHash, canonical_json
from buildkit.supply.components import (
    Component,
    ComponentAncestor,
    ComponentFile,
    ComponentKind,
    ComponentLocation,
    Licence,
    Sbom,
    SbomLayer,
)
from buildkit.supply.document_identity import document_uuid, render_time

NOTHING = "NOASSERTION"
_PURPOSES = {
    ComponentKind.WHEEL: "LIBRARY",
    ComponentKind.DEBIAN: "LIBRARY",
    ComponentKind.MODEL: "OTHER",
    ComponentKind.APPLICATION: "APPLICATION",
    ComponentKind.IMAGE: "CONTAINER",
    ComponentKind.PYTHON: "APPLICATION",
}
_IMAGE = "SPDXRef-Image"
_CONTAINS, _DEPENDS_ON, _DESCENDANT_OF = "CONTAINS", "DEPENDS_ON", "DESCENDANT_OF"


def render_spdx(sbom: Sbom) -> bytes:
    """Return the document; equal SBOMs give equal bytes. SPDX requires a time: 1970 if no true one is known.

    Files are packages of their own, because SPDX requires a SHA-1 of its files.
    """
    words = _ExtractedLicences()
    packages = [_image(sbom), *(p for layer in sbom.layers for p in _layer(layer)), *_parts(sbom, words)]
    document: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": sbom.image,
        "creationInfo": {
            "created": render_time(sbom.time or 0),
            "creators": [f"Tool: xoe-buildkit-{sbom.maker}"],
            "comment": _comment(sbom),
        },
        "documentDescribes": [_IMAGE],
        "packages": packages,
        "relationships": list(_relationships(sbom)),
    }
    if words.texts:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": name, "name": text, "extractedText": text} for name, text in sorted(words.texts.items())
        ]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", sbom.image)
    unique = document_uuid(canonical_json(document))
    document["documentNamespace"] = f"https://spdx.org/spdxdocs/{name}-{unique}"
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


class _ExtractedLicences:
    """Licences that SPDX has no identifier for, under identifiers of this document."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def expression(self, licence: Licence) -> str:
        """Return the value of ``licenseDeclared``."""
        if licence.expression:
            return licence.expression
        return " AND ".join(self._name(name) for name in licence.names) or NOTHING

    def _name(self, text: str) -> str:
        short = re.sub(r"[^A-Za-z0-9.]+", "-", text)[:40].strip("-")
        name = f"LicenseRef-{short}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.texts[name] = text
        return name


def _image(sbom: Sbom) -> dict[str, Any]:
    source = f"commit {sbom.commit}" + (", and files that differ from it" if sbom.dirty else "") if sbom.commit else ""
    purpose, config = "CONTAINER", [_checksum(FileHash(sbom.config.hex))] if sbom.config else []
    return _package(
        _IMAGE, sbom.image, sbom.version, purpose, checksums=config, sourceInfo=source, comment=f"arch: {sbom.arch}"
    )


def _layer(layer: SbomLayer) -> Iterator[dict[str, Any]]:
    comment = f"layer of kind {layer.kind}, made by the recipe {layer.key}"
    comment += "" if layer.known else "; what it holds beside packages is not listed"
    blobs = layer.blobs
    alone = [_checksum(FileHash(blobs[0].digest.hex))] if len(blobs) == 1 else []
    diff = f"; diff_id {blobs[0].diff_id}" if len(blobs) == 1 else ""
    yield _package(_layer_id(layer), layer.name, "", "ARCHIVE", checksums=alone, comment=f"{comment}{diff}")
    for number, blob in enumerate(blobs if len(blobs) > 1 else ()):
        sums = [_checksum(FileHash(blob.digest.hex))]
        name = f"{layer.name} ({number + 1})"
        yield _package(_blob_id(layer, number), name, "", "ARCHIVE", checksums=sums, comment=f"diff_id {blob.diff_id}")


def _parts(sbom: Sbom, words: _ExtractedLicences) -> Iterator[dict[str, Any]]:
    for part in sbom.components:
        yield _part(part, words)
        for file in part.files:
            sums = [_checksum(file.sha256)] if file.sha256 else []
            yield _package(_file_id(part, file), file.path, "", "FILE", checksums=sums)
        for ancestor in part.ancestors:
            yield _ancestor(part, ancestor)


def _part(part: Component, words: _ExtractedLicences) -> dict[str, Any]:
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
        externalRefs=_purls(part.purl),
        downloadLocation=next((o.url for o in part.origins if o.url.startswith("https:")), NOTHING),
        comment="\n".join(notes),
    )


def _ancestor(part: Component, ancestor: ComponentAncestor) -> dict[str, Any]:
    return _package(
        _ancestor_id(part, ancestor),
        ancestor.name,
        ancestor.version,
        _PURPOSES[part.kind],
        checksums=[_checksum(ancestor.sha256)] if ancestor.sha256 else [],
        externalRefs=_purls(ancestor.purl),
        comment=f"not in the image: {part.name} was derived from it",
    )


def _purls(purl: str) -> list[dict[str, str]]:
    found = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
    return [found] if purl else []


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


def _relationships(sbom: Sbom) -> Iterator[dict[str, str]]:
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)
    layers = {layer.name: layer for layer in sbom.layers}
    for layer in sbom.layers:
        yield _related(_IMAGE, _CONTAINS, _layer_id(layer))
        for number in range(len(layer.blobs) if len(layer.blobs) > 1 else 0):
            yield _related(_layer_id(layer), _CONTAINS, _blob_id(layer, number))
    refs = {part.ref: part for part in sbom.components}
    for part in sbom.components:
        yield from (_related(_holder(layers[at.layer], at, part), _CONTAINS, _part_id(part)) for at in part.places)
        yield from (_related(_part_id(part), _CONTAINS, _file_id(part, file)) for file in part.files)
        yield from (_related(_part_id(part), _DEPENDS_ON, _part_id(refs[need])) for need in part.needs)
        lineage = (_part_id(part), *(_ancestor_id(part, one) for one in part.ancestors))
        yield from (_related(made, _DESCENDANT_OF, source) for made, source in pairwise(lineage))


def _holder(layer: SbomLayer, place: ComponentLocation, part: Component) -> str:
    """Return the id of the layer, or of the one of its several blobs, that contains the component."""
    if place.blob is None or len(layer.blobs) < 2 or part.kind is ComponentKind.IMAGE:  # an image is all of its blobs
        return _layer_id(layer)
    return _blob_id(layer, layer.blobs.index(place.blob))


def _comment(sbom: Sbom) -> str:
    unmade = sum(not layer.blobs for layer in sbom.layers)
    return f"{unmade} of {len(sbom.layers)} layers have no digest: they were never built here" if unmade else ""


def _related(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _checksum(sha256: FileHash) -> dict[str, str]:
    return {"algorithm": "SHA256", "checksumValue": sha256.hex}


def _part_id(part: Component) -> str:
    return _id(part.kind, part.name, part.ref)


def _file_id(part: Component, file: ComponentFile) -> str:
    return _id("file", file.path, f"{part.ref}:{file.path}")


def _ancestor_id(part: Component, ancestor: ComponentAncestor) -> str:
    return _id("ancestor", ancestor.name, f"{part.ref}:{ancestor.name}")


def _layer_id(layer: SbomLayer) -> str:
    return _id("layer", layer.name, layer.name)


def _blob_id(layer: SbomLayer, number: int) -> str:
    return _id("blob", layer.name, f"{layer.name}:{number}")


def _id(kind: str, name: str, unique: str) -> str:
    """Return an SPDX identifier: letters, digits, dots and hyphens; the hash keeps similar names apart."""
    short = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[-60:]
    return f"SPDXRef-{kind}-{short}-{hashlib.sha256(unique.encode()).hexdigest()[:10]}"
