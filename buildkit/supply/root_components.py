"""The components of a root: read back from its layers if the cache has them, from its locks otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from buildkit.declare.apt_sources import is_ubuntu
from buildkit.digest import Key
from buildkit.layers.globs import compile_excludes
from buildkit.layers.root.dpkg import STATUS_FOLDER
from buildkit.layers.root.installed import Deb, InstalledPackages
from buildkit.locks.pins import AptPin
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.roots import find_apt_pins
from buildkit.plan.spec import MakeRoot, PullImage, RunStep, Spec
from buildkit.supply.components import Component, ComponentKind, ComponentLocation, Licence
from buildkit.supply.licences import licence_of_copyright, licence_of_metadata, parse_metadata
from buildkit.supply.purl import image_purl, pypi_purl, render_purl

ROOT_NOT_READ = "the root's layers are not at hand: build the stage here"


def root_components(
    chain: Sequence[Spec], arch: str, made: Mapping[Key, LayerResult], inside: InstalledPackages | None
) -> Iterator[Component]:
    """Yield the components of a root, lowest layer first; ``inside`` is what was read back from all its layers."""
    yield from _images(chain, arch, made)
    if inside is None or not inside.debs:  # the cache lacks a layer, or the root keeps no records
        for spec in chain:
            for pin, system in _locked(spec):
                deb = Deb(name=pin.name, version=pin.version, arch="")
                missing = Licence(missing=ROOT_NOT_READ if inside is None else "the root keeps no records of packages")
                yield _deb(deb, spec, _lowest(spec, made), missing, system)
    if inside is None:
        return
    layers = [(spec, blob) for spec in chain for blob in made[spec.key].blobs]
    yield from _debs(chain, layers, inside)
    for path, (text, depth) in inside.python.items():
        metadata = parse_metadata(text)
        name, version = str(metadata.get("Name", "")), str(metadata.get("Version", ""))
        if name and version:
            spec, blob = layers[depth]
            yield Component(
                kind=ComponentKind.WHEEL,
                ref=pypi_purl(name, version),
                name=name,
                version=version,
                places=(ComponentLocation(layer=spec.name, blob=blob),),
                purl=pypi_purl(name, version),
                licence=licence_of_metadata(metadata),
                notes=(("found", path),),
            )


def _images(chain: Sequence[Spec], arch: str, made: Mapping[Key, LayerResult]) -> Iterator[Component]:
    for spec in chain:
        if isinstance(spec.work, PullImage):
            name, _, digest = spec.work.ref.partition("@")
            yield Component(
                kind=ComponentKind.IMAGE,
                ref=f"image:{spec.work.ref}",
                name=name,
                version=digest,
                places=(ComponentLocation(layer=spec.name, blob=_lowest(spec, made)),),
                purl=image_purl(spec.work.ref, arch),
                licence=Licence(missing="an image of a registry"),
            )


def _debs(chain: Sequence[Spec], layers: Sequence[tuple[Spec, Blob]], inside: InstalledPackages) -> Iterator[Component]:
    release = inside.release
    suites = [suite for spec in chain for _, (_, suite) in _locked(spec)]
    system = release.get("ID", "debian")
    suite = release.get("VERSION_CODENAME") or (suites[0] if suites else "") or release.get("VERSION_ID", "")
    siblings: dict[str, list[str]] = {}
    for deb in inside.debs:
        siblings.setdefault(deb.source or deb.name, []).append(deb.name)
    for deb, depth in inside.debs.items():
        # policy 12.5: a package's own file, or that of another one of the same source, which a link may stand for
        names = (deb.name, *siblings[deb.source or deb.name])
        text = next(filter(None, map(inside.copyright, names)), None)
        licence = licence_of_copyright(text) if text is not None else Licence(missing="the root has no copyright file")
        spec, blob = layers[depth]
        yield _deb(deb, spec, blob, licence, (system, suite))


def _deb(deb: Deb, spec: Spec, blob: Blob | None, licence: Licence, system: tuple[str, str]) -> Component:
    upstream = deb.source + (f"@{deb.source_version}" if deb.source_version else "")
    vendor, suite = system
    purl = render_purl(
        "deb", deb.name, deb.version, namespace=vendor, arch=deb.arch, distro=suite, upstream=upstream
    )  # fmt: skip
    notes = (("arch", deb.arch), ("source", deb.source), ("source-version", deb.source_version))
    return Component(
        kind=ComponentKind.DEBIAN,
        ref=purl,
        name=deb.name,
        version=deb.version,
        places=(ComponentLocation(layer=spec.name, blob=blob),),
        purl=purl,
        licence=licence,
        notes=tuple((name, value) for name, value in notes if value),
    )


def _locked(spec: Spec) -> Iterator[tuple[AptPin, tuple[str, str]]]:
    """Yield the packages that will be recorded in a layer according to its lock, each with its system."""
    work = spec.work
    if isinstance(work, MakeRoot):
        excluded = compile_excludes(work.debian.exclude)  # a root without dpkg has one record a package
        recorded = [pin for pin in work.pins if not excluded(f"{STATUS_FOLDER}{pin.name}")]
        yield from ((pin, system_of(work)) for pin in recorded or work.pins)
    elif isinstance(work, RunStep):
        for pinned in find_apt_pins(work.run.command) or ():
            name, _, version = pinned.partition("=")
            yield AptPin(name=name, version=version), system_of(work)


def system_of(work: MakeRoot | RunStep) -> tuple[str, str]:
    """Return the distribution and its suite (``debian``, ``trixie``) of a root, or of the root below a step."""
    below = work.chain[0].work if isinstance(work, RunStep) and work.chain else work
    if isinstance(below, MakeRoot):
        return "ubuntu" if is_ubuntu(below.debian.suite) else "debian", below.debian.suite
    vendor, suite = below.image.system if isinstance(below, PullImage) else ("", "")
    return vendor or "debian", suite


def _lowest(spec: Spec, made: Mapping[Key, LayerResult]) -> Blob | None:
    blobs = made[spec.key].blobs if spec.key in made else ()
    return blobs[0] if blobs else None
