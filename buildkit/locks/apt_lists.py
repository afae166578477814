"""The apt lists of a graph, the root that each is locked for, and the locks underneath."""

from __future__ import annotations

from buildkit.declare.apt_archives import USUAL, Archives
from buildkit.declare.apt_sources import render_image_sources, render_sources
from buildkit.declare.graph import Graph
from buildkit.declare.stage import Stage
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.apt_lock import apt_lock_path
from buildkit.locks.freshness import apt_inputs
from buildkit.locks.images_lock import IMAGES_LOCK, find_image
from buildkit.locks.requirement_inputs import Read


@dataclass(frozen=True, slots=True, kw_only=True)
class AptList:
    """An apt list (``requirements/base.apt``), its release and archives, and the lists it extends, lowest first.

    The versions of those are kept, and the list's lock has only what is added to them. On an ``image`` of a registry
    there is no suite, and the lock has only what is added to the image, or another version of it.
    """

    file: str
    suite: str = ""
    variant: str = ""
    components: tuple[str, ...] = ("main",)
    base: tuple[str, ...] = ()
    archives: Archives = USUAL
    image: str = ""


def find_apt_lists(graph: Graph) -> tuple[AptList, ...]:
    """Return every list once, after those in its ``base``. Raises DefinitionError if two roots differ over one list."""
    found: dict[str, AptList] = {}
    problems: list[Problem] = []
    for stage in graph.stages.values():
        below: list[str] = []
        root: Stage | None = None
        for link in graph.resolve(stage.name).chain:
            root = link if link.debian or link.image else root
            if link.apt and any(other.containerfile for other in graph.resolve(stage.name).chain):
                what, hint = "a root of a Containerfile takes no [apt]", "install its packages in that Containerfile"
                problems.append(Problem(file=link.file, key="apt", what=what, hint=hint))
                continue
            for file in filter(None, (link.debian.packages if link.debian else "", link.apt)):
                _add(found, _listed(file, root, below), link, problems)
                below.append(file)
    if problems:
        raise DefinitionError.of(list(dict.fromkeys(problems)))
    return tuple(sorted(found.values(), key=lambda listed: (len(listed.base), listed.file)))


def hash_inputs(listed: AptList, text: str, read: Read, target: Target) -> FileHash:
    """Hash what the lock of a list is made from: its ``text``, the root below, and its archives."""
    arch = target.deb_arch
    base = "".join(read(apt_lock_path(file, target.lock_arch)) or "" for file in listed.base)
    settings = {"suite": listed.suite, "variant": listed.variant, "components": ",".join(listed.components)}
    if listed.image:
        image = find_image(listed.image, read(IMAGES_LOCK))
        contents = image.contents.get(arch) if image else None
        packages = contents.packages if contents else {}
        settings = {"image": str(image.digest) if image else ""}
        base = "".join(f"{name}={version}\n" for name, version in sorted(packages.items())) + base
    sources = find_sources(listed, read, arch)
    return apt_inputs(text, base=base, arch=arch, **settings, **({"sources": sources} if sources else {}))


def find_sources(listed: AptList, read: Read, arch: str) -> str:
    """Return the text of the archives of a list's root, empty for the usual ones."""
    if not listed.image:
        return render_sources(listed.suite, listed.components, listed.archives, arch)
    image = find_image(listed.image, read(IMAGES_LOCK))
    contents = image.contents.get(arch) if image else None
    return render_image_sources(contents.id, contents.codename, listed.archives, arch) if contents else ""


def _listed(file: str, root: Stage | None, below: list[str]) -> AptList:
    if root is None or root.debian is None:
        image, archives = (root.image, root.image_archives) if root else ("", USUAL)
        return AptList(file=file, base=tuple(below), archives=archives, image=image)
    return AptList(
        file=file,
        suite=root.debian.suite,
        variant=root.debian.variant,
        components=root.debian.components,
        base=tuple(below),
        archives=root.debian.archives,
    )


def _add(found: dict[str, AptList], listed: AptList, stage: Stage, problems: list[Problem]) -> None:
    if found.setdefault(listed.file, listed) != listed:
        what = f"{listed.file} is already locked for another root"
        problems.append(Problem(file=stage.file, what=what, hint="give each root an apt list of its own"))
