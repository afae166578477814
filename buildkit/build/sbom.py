"""Collects a stage's software bill of materials (SBOM) on this host, from its locks, layers and wheels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from email.message import Message
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from buildkit.build.assemble import assemble
from buildkit.build.commit_labels import label_commit, source_time
from buildkit.build.planner import Planner
from buildkit.build.read_layers import read_layers
from buildkit.declare.graph import find_choices
from buildkit.digest import Digest, FileHash, Key
from buildkit.errors import LostError, WheelError
from buildkit.events import Note
from buildkit.layers.root.installed import InstalledPackages
from buildkit.locks.pins import Artifact
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Compile, Spec
from buildkit.supply.collect import SbomInputs, collect
from buildkit.supply.components import Sbom
from buildkit.supply.licences import parse_metadata
from buildkit.tools.git import find_commit

FORMATS = ("cyclonedx", "spdx")
MEDIA_TYPES = {"cyclonedx": "application/vnd.cyclonedx+json", "spdx": "application/spdx+json"}
_METADATA_LIMIT = 16 << 20


def make_sbom(planner: Planner, stage: str, form: str = "cyclonedx", *, pushed: bool = False) -> bytes:
    """Return a stage's SBOM in one of FORMATS, equal for equal checkouts and caches. Raises as ``collect_sbom``."""
    return render_sbom(collect_sbom(planner, stage, pushed=pushed), form)


def render_sbom(sbom: Sbom, form: str) -> bytes:
    """Render an SBOM in one of FORMATS."""
    if form == "spdx":
        from buildkit.supply.spdx import render_spdx

        return render_spdx(sbom)
    from buildkit.supply.cyclonedx import render_cyclonedx

    return render_cyclonedx(sbom)


def collect_sbom(planner: Planner, stage: str, *, pushed: bool = False) -> Sbom:
    """Collect the components of a stage's image, built or not. Builds nothing, and fetches only records of caches.

    The image is the one of local storage, or as it is ``pushed``.

    Raises DefinitionError, and BuildError for a damaged layer of the cache.
    """
    composition, project = planner.composer.compose(stage), planner.context.project
    results = _find_results(planner, composition)
    finder = _MetadataFinder(planner, results)
    commit = find_commit(project.folder)
    labels = dict(composition.config.labels)
    facts = SbomInputs(
        image=f"{project.name}/{stage}",
        version=labels.get("org.opencontainers.image.version", ""),
        arch=project.target.deb_arch,
        maker=_buildkit_version(),
        results=results,
        installed=_read_root(planner, composition.root, results),
        metadata=finder.find,
        compiled=lambda key: known[1] if (known := planner.context.files.find_wheel(key)) else None,
        lock_parents=_lock_parents(planner, stage),
        config=_config_digest(planner, composition, results, pushed=pushed),
        commit=commit.id if commit else "",
        dirty=bool(commit and commit.dirty),
        time=source_time(commit.time if commit and not commit.dirty else None),
    )
    return collect(composition, facts)


def _find_results(planner: Planner, composition: Composition) -> Mapping[Key, LayerResult]:
    """Return the known results of layers, from the ledger or the remote cache."""
    results = planner.context.ledger.layers.find(spec.key for spec in composition.specs)
    unknown = [spec.key for spec in composition.specs if spec.key not in results]
    shared = planner.context.remote_cache.find_records(composition.stage.name, unknown) if unknown else {}
    return results | {key: record.result for key, record in shared.items()}


def _config_digest(
    planner: Planner, composition: Composition, results: Mapping[Key, LayerResult], *, pushed: bool
) -> Digest | None:
    if any(spec.key not in results for spec in composition.specs):
        return None
    project = planner.context.project
    image = assemble(composition.specs, composition.config, results, project.target.deb_arch)
    return Digest.of((label_commit(image, project) if pushed else image).config_blob())


def _read_root(planner: Planner, chain: Iterable[Spec], results: Mapping[Key, LayerResult]) -> InstalledPackages | None:
    """Return the packages installed in a root; None if one of its layers is not on this host."""
    known = [results.get(spec.key) for spec in chain]
    blobs = [blob for result in known if result for blob in result.blobs]
    if not blobs or None in known or not all(map(planner.is_present, blobs)):
        return None
    return _read_layers(planner, blobs)


def _read_layers(planner: Planner, blobs: Iterable[Blob]) -> InstalledPackages:
    inside = InstalledPackages()
    read_layers(planner.context.layers, blobs, inside.add)
    return inside


class _MetadataFinder:
    """Finds the METADATA of wheels: in the wheel if it is cached, else in the layer that has it installed."""

    def __init__(self, planner: Planner, results: Mapping[Key, LayerResult]) -> None:
        self._planner = planner
        self._results = results
        self._in_layer = cache(self._read_layer)

    def find(self, artifact: Artifact, item: Compile | None, spec: Spec) -> Message | None:
        """Return a wheel's METADATA; None if neither wheel nor layer is on this host."""
        from buildkit.locks.requirements_txt import normalise_name

        file = self._file(artifact, item)
        if file is not None and (text := self._read_wheel(*file, artifact.name)) is not None:
            return parse_metadata(text)
        return self._in_layer(spec.key).get(normalise_name(artifact.name))

    def _file(self, artifact: Artifact, item: Compile | None) -> tuple[str, FileHash] | None:
        context = self._planner.context
        if item is not None:
            return context.files.find_wheel(item.key)
        if artifact.sha256 is None or not context.blobs.has_file(artifact.sha256, artifact.file):
            return None
        return artifact.file, artifact.sha256

    def _read_wheel(self, name: str, sha256: FileHash, project: str) -> str | None:
        from buildkit.layers.wheel.archive import WheelZip

        files = self._planner.context.files
        try:
            path = files.get_file(project, sha256, name)
            with files.unchanged([path]):
                wheel = WheelZip(path)
                inside = [name for name in wheel.files if name.count("/") == 1 and name.endswith(".dist-info/METADATA")]
                return wheel.read(inside[0], _METADATA_LIMIT).decode("utf-8", "replace") if inside else None
        except (LostError, WheelError) as error:
            self._planner.context.emit(Note(text=error.message, warning=True))
            return None

    def _read_layer(self, key: Key) -> dict[str, Message]:
        """Return METADATA by normalised name of the packages in a layer; empty if its blobs are not cached."""
        from buildkit.locks.requirements_txt import normalise_name

        blobs = self._results[key].blobs if key in self._results else ()
        if not blobs or not all(map(self._planner.is_present, blobs)):
            return {}
        parsed = [parse_metadata(text) for text, _ in _read_layers(self._planner, blobs).python.values()]
        return {normalise_name(str(metadata.get("Name", ""))): metadata for metadata in parsed}


def _lock_parents(planner: Planner, stage: str) -> dict[str, tuple[str, ...]]:
    """Return the packages that require each pin, over all locks of a stage."""
    from buildkit.locks.lock_parents import parse_parents, parse_via

    choices = find_choices(planner.graph)
    locks = dict.fromkeys(lock for part in planner.graph.resolve(stage).parts for lock in part.wheels)
    needed: dict[str, set[str]] = {}
    for lock in locks:
        file = choices[lock].file if lock in choices else lock
        text = planner.checkout.read(file) or ""
        for name, parents in (parse_parents(text, file) if lock in choices else parse_via(text)).items():
            needed.setdefault(name, set()).update(parents)
    return {name: tuple(sorted(parents)) for name, parents in needed.items()}


def _buildkit_version() -> str:
    try:
        return version("xoe-buildkit")
    except PackageNotFoundError:
        return "0"
