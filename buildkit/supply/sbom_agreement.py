"""Check that the attestations of an image agree with a checkout's locks and with the image.

Pure; predicates are distrusted. Each function returns the first disagreement, or an empty text. Values that may differ
are not compared: commit and machine, and what an SBOM learned from bytes that this host lacks (licences, packages of a
step).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from buildkit.digest import DiffId, Digest
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec
from buildkit.supply.components import Component, ComponentKind, Sbom
from buildkit.supply.provenance import BUILD_TYPE, recipe_byproducts, resolved_dependencies

Layers = Sequence[tuple[Digest, DiffId]]

_WRONG = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
_MAX_QUOTED = 200  # characters of a foreign text


def check_provenance(
    predicate: Mapping[str, Any], composition: Composition, tools: Sequence[Spec], image: Layers
) -> str:
    """Compare a provenance predicate with a composition and an image's layers."""
    try:
        definition, details = predicate["buildDefinition"], predicate["runDetails"]
        if definition["buildType"] != BUILD_TYPE:
            return "it was not written by buildkit"
        stage = definition["externalParameters"]["stage"]
        if stage != composition.stage.name:
            return f"it is of the stage {_quote(stage)}"
        return (
            _check_recipes(details["byproducts"], composition, tools)
            or _check_layers(details["byproducts"], composition, image)
            or _check_pins(definition["resolvedDependencies"], composition, tools)
        )
    except _WRONG as error:
        return f"it cannot be read: {type(error).__name__}"


def check_cyclonedx(predicate: Mapping[str, Any], sbom: Sbom, composition: Composition, image: Layers) -> str:
    """Compare an SBOM predicate with the SBOM of this checkout and an image's layers."""
    try:
        image_part = predicate["metadata"]["component"]
        if image_part["name"] != sbom.image:
            return f"it is of {_quote(image_part['name'])}"
        layers = image_part["components"]
        blobs = [
            (blob["name"], _property(blob, "layer:diff-id")) for layer in layers for blob in layer.get("components", ())
        ]
        if blobs != [(str(digest), str(diff_id)) for digest, diff_id in image]:
            return "its layers are not the image's"
        keys = [_property(layer, "layer:key") for layer in layers]
        if keys != [str(spec.key) for spec in composition.specs]:
            return "its layers are not made by the recipes of this checkout"
        root = {spec.name for spec in composition.root}
        return _check_parts(predicate["components"], sbom, root)
    except _WRONG as error:
        return f"it cannot be read: {type(error).__name__}"


def _check_recipes(found: Any, composition: Composition, tools: Sequence[Spec]) -> str:  # noqa: ANN401 - JSON
    if twice := _find_doubled(recipe["digest"]["sha256"] for recipe in found):
        return f"it has the recipe {_quote(twice)} twice"
    expected = [_bare(recipe) for recipe in recipe_byproducts(composition, tools, {}, with_results=False)]
    actual = [_bare(recipe) for recipe in found]
    for recipe in expected:
        if recipe not in actual:
            return f"it lacks the recipe of {recipe[0]}, or has another"
    extra = next((recipe for recipe in actual if recipe not in expected), None)
    return "" if extra is None else f"it has a recipe that this checkout lacks: {_quote(extra[0])}"


def _check_layers(found: Any, composition: Composition, image: Layers) -> str:  # noqa: ANN401 - JSON
    by_key = {byproduct["digest"]["sha256"]: byproduct["annotations"].get("layers", []) for byproduct in found}
    stated = [(row["digest"], row["diff_id"]) for spec in composition.specs for row in by_key[spec.key.hex]]
    same = stated == [(str(digest), str(diff_id)) for digest, diff_id in image]
    return "" if same else "its recipes were built to other layers than the image's"


def _check_pins(found: Any, composition: Composition, tools: Sequence[Spec]) -> str:  # noqa: ANN401 - JSON
    if twice := _find_doubled(pin["name"] for pin in found):
        return f"it names {_quote(twice)} twice"
    actual = {pin["name"]: pin for pin in found if pin["name"] != "checkout"}
    expected = {pin["name"]: pin for pin in resolved_dependencies(composition, tools)}
    wrong = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    return f"it disagrees with the locks about {_quote(wrong[0])}" if wrong else ""


def _check_parts(components: Any, sbom: Sbom, root: set[str]) -> str:  # noqa: ANN401 - JSON
    if twice := _find_doubled(component["bom-ref"] for component in components):
        return f"it has {_quote(twice)} twice"
    expected = {part.ref: part for part in sbom.components if part.layer not in root}
    actual = {component["bom-ref"]: component for component in components if _first_layer(component) not in root}
    if wrong := sorted(expected.keys() ^ actual.keys()):
        what = "lacks" if wrong[0] in expected else "has, unlike the locks,"
        return f"it {what} {_quote(wrong[0])}"
    for ref, part in expected.items():
        names = _properties(actual[ref], "layer:name")
        if not _is_same(part, actual[ref]) or set(names) != {place.layer for place in part.places}:
            return f"it disagrees with the locks about {ref}"
    locked = {
        (part.name, part.version)
        for part in sbom.components
        if part.layer in root and part.kind is ComponentKind.DEBIAN
    }
    missing = sorted(locked - {(component["name"], component.get("version", "")) for component in components})
    return f"it lacks {missing[0][0]} {missing[0][1]}" if missing else ""


def _is_same(part: Component, component: Mapping[str, Any]) -> bool:
    hashes = [entry["content"] for entry in component.get("hashes", ())]
    files = sorted(
        (entry["name"], [h["content"] for h in entry.get("hashes", ())]) for entry in component.get("components", ())
    )
    known = sorted((file.path, [file.sha256.hex] if file.sha256 else []) for file in part.files)
    names = (component["name"], component.get("purl", ""), component.get("version", ""))
    is_named = names[:2] == (part.name, part.purl) and _is_version_right(part, names[2])
    # a wheel that another host compiled has a hash that is not known here
    is_hash_right = part.sha256 is None or hashes == [part.sha256.hex]
    return is_named and files == known and is_hash_right


def _is_version_right(part: Component, version: str) -> bool:
    """Compare a version; that of the repository's own files is the commit, which may be another."""
    return part.kind is ComponentKind.APPLICATION or version == part.version


def _bare(recipe: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return recipe["name"], recipe["digest"]["sha256"], recipe["content"], recipe["annotations"]["kind"]


def _find_doubled(names: Iterable[str]) -> str:
    """Return a name that is there twice: of two entries of one name, a reader may take either."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _first_layer(component: Mapping[str, Any]) -> str:
    return next(iter(_properties(component, "layer:name")), "")


def _properties(component: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of a property: a component that two layers bring has some twice."""
    return [prop["value"] for prop in component.get("properties", ()) if prop["name"] == f"buildkit:{name}"]


def _property(component: Mapping[str, Any], name: str) -> str:
    found = _properties(component, name)
    if len(found) > 1:
        raise ValueError(f"two properties {name}")
    return str(found[0]) if found else ""


def _quote(text: object) -> str:
    return f"`{str(text)[:_MAX_QUOTED]}`"
