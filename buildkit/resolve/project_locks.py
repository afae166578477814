"""The request to lock everything that the stages of a project need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from buildkit.declare.containerfile_root import ContainerfileRoot, find_containerfile_inputs
from buildkit.declare.graph import Graph, find_choices, find_project_inputs
from buildkit.declare.image_names import is_pinned
from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.project import Project
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.apt_lists import AptList, find_apt_lists
from buildkit.locks.freshness import find_inputs
from buildkit.locks.models_lock import models_source_path
from buildkit.locks.root_release import find_roots
from buildkit.locks.system_packages import find_lock_images
from buildkit.resolve.request import ImageWheels, LockDrafts, LockRequest, RootImage, input_of


def make_request(project: Project, graph: Graph, only: str = "") -> LockRequest:
    """Return what the stages need locked; requirements that share an image form a group. Raises DefinitionError.

    With ``only``, the requirements of this stage, no models, and the apt lists of all.
    """
    choices, project_inputs = find_choices(graph), find_project_inputs(graph)
    groups, chosen, images = [], list[LockChoice](), list[ImageWheels]()
    inner = _find_inner(graph)
    for name in (only,) if only else graph.stages:
        parts = graph.resolve(name).parts
        locks = {lock: part.file for part in parts for lock in part.wheels}
        prefer = tuple(dict.fromkeys(project for part in reversed(parts) for project in part.prefer))
        if only or graph.stages[name].ships or name not in inner:
            images.append(ImageWheels(stage=name, files=locks, prefer=prefer))
        chosen += [choices[lock] for lock in locks if lock in choices]
        own = [lock for lock in locks if lock not in choices]
        groups.append(tuple(input_of(lock) for lock in own if _has_input(project, lock, project_inputs)))
    target, *others = (each.target for each in project.of_each_arch())
    lists = find_apt_lists(graph)
    models = [] if only else [stage.models.lock for stage in graph.stages.values() if stage.models]
    return LockRequest(
        root=project.folder,
        target=target,
        others=tuple(others),
        locker=project.locker,
        groups=tuple(dict.fromkeys(group for group in groups if group)),
        choices=tuple(dict.fromkeys(chosen)),
        project_inputs=project_inputs,
        images=tuple(image for image in images if image.files),
        root_images=_find_root_images(project, graph, lists),
        lock_images=_find_lock_images(project, graph, choices),
        apt=lists,
        roots={lock if lock in choices else input_of(lock): roots for lock, roots in find_roots(graph).items()},
        models=tuple(models_source_path(lock) for lock in dict.fromkeys(models)),
    )


def _find_lock_images(project: Project, graph: Graph, choices: Mapping[str, LockChoice]) -> dict[str, tuple[str, ...]]:
    """Return the images whose packages count, by input. Raises DefinitionError for a lock of another tool on one."""
    found = find_lock_images(graph) if project.target.sees_system else {}
    for lock, images in found.items():
        if lock in choices and any(images):
            what = "is resolved by its own tool, which does not know the packages of the root image"
            hint = 'name an input in its place ("pyproject.toml", or an .in), or set site-packages = "own"'
            raise DefinitionError.of([Problem(file=choices[lock].file, what=what, hint=hint)])
    return {input_of(lock): images for lock, images in found.items()}


def _find_root_images(project: Project, graph: Graph, lists: Iterable[AptList]) -> tuple[RootImage, ...]:
    """Return the images that are locked: those without a digest, and those whose packages count, or every one.

    Every image is locked for `site-packages = "system"`.
    """
    extended = {listed.image for listed in lists}
    named = {stage.image: (stage.file, "root.image") for stage in graph.stages.values() if stage.image}
    for root in (stage.containerfile for stage in graph.stages.values() if stage.containerfile):
        named |= dict.fromkeys(_images_of(project, root), (root.file, ""))
    return tuple(
        RootImage(name=name, file=file, key=key)
        for name, (file, key) in named.items()
        if project.target.sees_system or not is_pinned(name) or name in extended
    )


def _images_of(project: Project, root: ContainerfileRoot) -> tuple[str, ...]:
    """Return the images that a Containerfile stands on. Raises DefinitionError if it cannot be read."""
    text = LockDrafts(project.folder).get(root.file)
    return tuple(find_containerfile_inputs(text, root).images.values())


def _find_inner(graph: Graph) -> set[str]:
    """Return the stages that others come from or include; those may settle what the inner ones leave open."""
    parts = {name: graph.resolve(name).parts for name in graph.stages}
    return {part.name for name, found in parts.items() for part in found if part.name != name}


def _has_input(project: Project, lock: str, project_inputs: Mapping[str, LockChoice]) -> bool:
    choice = project_inputs.get(input_of(lock))
    if (project.folder / (choice.file if choice else input_of(lock))).is_file():
        return True
    if choice:
        raise DefinitionError(f"{choice.file}: there is no such file")
    text = LockDrafts(project.folder).read(lock)
    is_theirs = text is not None and find_inputs(text) is None
    hint = f"run: mv {lock} {input_of(lock)}" if is_theirs else "list what the stage needs there"
    raise DefinitionError(f"{lock}: there is no {input_of(lock)} to make it from", hint=hint)
