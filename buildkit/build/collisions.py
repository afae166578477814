"""Finds paths that two layers of an image own, and paths of the root that a layer would replace.

Path prefixes tell which layers can collide at all; only their listings are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from buildkit.declare.paths import find_reserved
from buildkit.digest import Key
from buildkit.errors import CollisionError
from buildkit.layers.path_prefixes import find_overlaps, make_overlap_test
from buildkit.layers.root.paths import RootClash, RootPaths
from buildkit.layers.tar.contents import Listing, describe_difference
from buildkit.plan.compose import Composition
from buildkit.plan.packing import project_of
from buildkit.plan.spec import PackFiles, PackWheels, Spec
from buildkit.store.layer_bytes import LayerBytes
from buildkit.store.layer_listings import find_listing
from buildkit.store.ledger import Ledger

AskListing = Callable[[Key], Listing]


class CollisionCheck:
    """Whether a layer's path is another layer's, too, with other content, or replaces one of the root.

    Content is bytes, mode and kind. Only a `[[copy]]` may replace a file of the root by a file. ``ask`` returns the
    listing of a layer that only a remote cache has.
    """

    def __init__(self, composition: Composition, ledger: Ledger, layers: LayerBytes, ask: AskListing) -> None:
        self._composition = composition
        self._ledger = ledger
        self._layers = layers
        self._ask = ask

    def run(self) -> None:
        """Raise CollisionError for the first collision."""
        prefixes = self._find_prefixes()
        layers, root = self._composition.layers, self._composition.root
        self._compare_layers(find_overlaps({spec.key: prefixes[spec.key] for spec in layers}))
        overlaps_root = make_overlap_test(prefix for spec in root for prefix in prefixes[spec.key])
        for spec in layers:
            if overlaps_root(prefixes[spec.key]):
                self._compare_with_root(spec)

    def _find_prefixes(self) -> Mapping[Key, tuple[str, ...]]:
        keys = [spec.key for spec in self._composition.specs]
        known = self._ledger.layers.path_prefixes(keys)
        unknown = [spec for spec in self._composition.specs if spec.key not in known]
        for spec in unknown:
            self._listing(spec)
        return self._ledger.layers.path_prefixes(keys) if unknown else known

    def _compare_layers(self, overlapping: set[Key]) -> None:
        owners: dict[str, tuple[Spec, str]] = {}
        replaced: dict[str, Spec] = {}
        for spec in self._composition.layers:
            for path, content in self._listing(spec) if spec.key in overlapping else ():
                first, other = owners.setdefault(path, (spec, content))
                if other == content:
                    continue
                if not self._wins(spec, first):
                    owner, rival = self._name_owner(first, path), self._name_owner(spec, path)
                    what = f"/{path} is in {owner} and in {rival}, and {describe_difference(other, content)}"
                    raise wheels_collide(what, first, spec)
                owners[path] = spec, content
                replaced[path] = first
        self._check_bytecode(owners, replaced)
        folders = _folders(owners)
        for path in sorted(folders.keys() & owners.keys()):
            owner, rival = self._name_owner(owners[path][0], path), self._name_owner(folders[path], f"{path}/")
            raise _collision(f"/{path} is a file in {owner} and a folder in {rival}")

    def _wins(self, upper: Spec, lower: Spec) -> bool:
        """Return whether the stage prefers the upper of two layers of wheels."""
        return project_of(upper) in self._composition.prefer and isinstance(lower.work, PackWheels)

    def _check_bytecode(self, owners: Mapping[str, tuple[Spec, str]], replaced: Mapping[str, Spec]) -> None:
        """Raise CollisionError if the bytecode of a module that was replaced would run in place of the new one."""
        modules = {path.removesuffix(".py") for path in replaced if path.endswith(".py")}
        for path, (spec, _) in owners.items() if modules else ():
            folder, _, name = path.rpartition("/__pycache__/")
            module = f"{folder}/{name.partition('.')[0]}"
            if folder and module in modules and replaced[f"{module}.py"] is spec:
                raise CollisionError(
                    f"/{path} of {self._name_owner(spec, path)} is of a module that a preferred package replaces",
                    hint="say `bytecode = false` in [tool.buildkit], or exclude one of the two packages",
                )

    def _compare_with_root(self, spec: Spec) -> None:
        for path, content in self._listing(spec):
            if clash := self._find_clash(spec, path, content):
                instead = clash.instead
                if instead and (find_reserved(instead) or self._find_clash(spec, instead, content)):
                    clash = replace(clash, instead="")
                raise self._root_collision(spec, path, clash)

    def _find_clash(self, spec: Spec, path: str, content: str) -> RootClash | None:
        clash = self._root.find_clash(path, content)
        return None if clash and clash.is_content and isinstance(spec.work, PackFiles) else clash

    @cached_property
    def _root(self) -> RootPaths:
        return RootPaths(map(self._listing, self._composition.root))

    def _listing(self, spec: Spec) -> Listing:
        listing = find_listing(spec.key, self._ledger, self._layers, of_root=spec.is_of_root)
        if listing is None:
            listing = self._ask(spec.key)
            self._ledger.layers.add_contents(spec.key, listing)
        return listing

    def _root_collision(self, spec: Spec, path: str, clash: RootClash) -> CollisionError:
        owner = self._name_owner(spec, path)
        if clash.instead:
            hint = f"give the files the target that the link leads to: /{clash.instead}"
        else:
            hint = "give the files another target, or change the root"
        return CollisionError(f"/{path} of {owner} would replace /{clash.path}, {clash.what} of the root", hint=hint)

    def _name_owner(self, spec: Spec, path: str) -> str:
        """Name the cached wheel that installs ``path`` (a folder ends in a slash), else the layer."""
        import zipfile

        for wheel in spec.work.wheels if isinstance(spec.work, PackWheels) else ():
            if wheel.sha256 is None or not wheel.is_wheel:
                continue
            archive = self._layers.blobs.file_path(wheel.sha256, wheel.file)
            with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(archive) as file:
                if any(_installs(member, path) for member in file.namelist()):
                    return f"{wheel.name} {wheel.version} (layer {spec.name})"
        return f"the layer {spec.name}"


def _folders(owners: Mapping[str, tuple[Spec, str]]) -> dict[str, Spec]:
    """Return the folders above the paths, each with a layer that has a file in it."""
    folders: dict[str, Spec] = {}
    for path, (spec, _) in owners.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = spec
            folder = folder.rpartition("/")[0]
    return folders


def _installs(member: str, path: str) -> bool:
    """Return whether a wheel's member is installed at ``path`` or in it; ``NAME.data/SCHEME/`` is not in its path."""
    _, data, rest = member.partition(".data/")
    name = rest.partition("/")[2] if data else member
    if not path.endswith("/"):
        return path.endswith(f"/{name}")
    parents = name.split("/")[:-1]
    return any(path.endswith("/" + "/".join(parents[:depth]) + "/") for depth in range(1, len(parents) + 1))


def wheels_collide(what: str, *owners: Spec) -> CollisionError:
    """Return the error of a path that two layers have; where both hold wheels, the user may say which one wins."""
    if not all(isinstance(spec.work, PackWheels) for spec in owners):
        return _collision(what)
    files = [f"stages/{spec.name.partition('/')[0]}/stage.toml" for spec in owners]
    what, hint = explain_meeting(what, files)
    return CollisionError(what, hint=hint)


def explain_meeting(what: str, files: Iterable[str], names: Sequence[str] = ("NAME",)) -> tuple[str, str]:
    """Return what happens where wheels meet, and how the user decides it in one of the stage ``files``."""
    where, ways = " or ".join(dict.fromkeys(files)), " or ".join(f'["{name}"]' for name in names)
    return (
        f"{what}; pip would keep the file of the one that it installs last, and say nothing",
        f"name the package that wins: prefer = {ways} in [wheels] of {where}; or exclude one of the two",
    )


def _collision(what: str) -> CollisionError:
    return CollisionError(what, hint="exclude one of the two packages, or give the files another target")
