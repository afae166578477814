"""Where the files of a model lie in an image, and which of them share a layer. Pure.

The layout ``hf-cache`` is that of the cache of a model hub's library
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache): ``models--ORG--NAME`` holds ``blobs``, a folder in
``snapshots`` for a commit with links to them, and in ``refs`` files that say the commit of a branch or tag. Blobs have
the name of their SHA-256; the library itself names small ones by git's hash, but finds all through the links.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from buildkit.declare.stage import Stage
from buildkit.errors import DefinitionError
from buildkit.locks.model_source import HubSource
from buildkit.locks.pins import HF_CACHE, Model
from buildkit.plan.spec import HubSnapshot, Kind, PackModel, Spec, make_recipe, make_spec

LARGE_MODEL_FILE = 8 << 20
_MAIN = "main"  # what programs ask for that name no revision


def pack_model(model: Model, target: str, names: tuple[tuple[str, str], ...] = ()) -> Iterator[tuple[str, PackModel]]:
    """Yield the layers of a model, with their names: one for each large file, and one for all small ones.

    ``target`` is the folder of the stage's models; ``names`` are places of files that are not their paths.
    """
    files = sorted(model.files, key=lambda f: f.path)  # in the packer's order, which does not depend on the lock's
    blobs, folder = model.layout == HF_CACHE, model_folder(model, target)
    if blobs:
        files = list({file.sha256: file for file in reversed(files)}.values())[::-1]
    small = tuple(file for file in files if file.size < LARGE_MODEL_FILE)
    for file in files:
        if file.size >= LARGE_MODEL_FILE:
            work = PackModel(model=model, files=(file,), target=folder, blobs=blobs, names=names)
            yield f"{model.name}/{file.path}", work
    if blobs or small:
        snapshot = _snapshot(model) if blobs else None
        work = PackModel(model=model, files=small, target=folder, blobs=blobs, snapshot=snapshot, names=names)
        yield model.name, work


def model_layer(stage: Stage, name: str, work: PackModel, stored: Mapping[str, str]) -> Spec:
    """Return a layer of a model; ``stored`` are a recipe's entries for the storage of layers."""
    files = sorted([work.place(f), f.sha256.hex] for f in work.files)
    hub = {"hub": snapshot_recipe(work.snapshot)} if work.snapshot else {}
    recipe, key = make_recipe(Kind.MODEL, target=work.target, files=files, **hub, **stored)
    history = f"model: {name} {work.model.version}".rstrip()
    spec = make_spec(stage, name, Kind.MODEL, recipe, key, work=work, history=history)
    return replace(spec, weight=sum(f.size for f in work.files))


def model_folder(model: Model, target: str) -> str:
    """Return the folder of a model: in a cache, that of its repository."""
    if model.layout == HF_CACHE and isinstance(model.source, HubSource):
        repository = f"models--{model.source.repository.replace('/', '--')}"
        return posixpath.join(model.target or posixpath.join(target, "hub"), repository)
    return model.target or posixpath.join(target, model.name)


def hub_environment(works: Iterable[PackModel], env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which the hub's library finds the models that are in a cache, and asks no hub.

    Raises DefinitionError for a repository twice, and for models in several caches, of which a program has one, if
    ``env`` does not say which.
    """
    folders: dict[str, str] = {}
    for work in works:
        if work.snapshot is None:
            continue
        other = folders.setdefault(work.target, work.model.name)
        if other != work.model.name:
            raise DefinitionError(f"the models `{other}` and `{work.model.name}` are one repository in one hub cache")
    caches = {posixpath.dirname(folder): name for folder, name in folders.items()}
    if len(caches) > 1 and "HF_HUB_CACHE" not in env:
        names = " and ".join(f"`{name}`" for name in caches.values())
        raise DefinitionError(f"the models {names} are in different hub caches", hint="give them the same `target`")
    return {"HF_HUB_CACHE": cache, "HF_HUB_OFFLINE": "1"} if (cache := next(iter(caches), "")) else {}


def snapshot_recipe(snapshot: HubSnapshot) -> dict[str, object]:
    """Return a snapshot as in recipes."""
    return {"commit": snapshot.commit, "refs": list(snapshot.refs), "files": [list(row) for row in snapshot.files]}


def snapshot_links(snapshot: HubSnapshot) -> dict[str, str]:
    """Return the links of a snapshot, by path in the repository's folder."""
    links = {}
    for path, blob in snapshot.files:
        up = "../" * (path.count("/") + 2)
        links[f"snapshots/{snapshot.commit}/{path}"] = f"{up}blobs/{blob}"
    return links


def snapshot_refs(snapshot: HubSnapshot) -> dict[str, str]:
    """Return the commits that refs say, by path in the repository's folder."""
    return {f"refs/{name}": snapshot.commit for name in snapshot.refs}


def _snapshot(model: Model) -> HubSnapshot:
    refs = tuple(sorted({_MAIN, model.revision or _MAIN}))
    rows = sorted((file.path, file.sha256.hex) for file in model.files)
    return HubSnapshot(commit=model.version, refs=refs, files=tuple(rows))
