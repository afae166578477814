"""Compare the parts of recipes that stage files and the files of the repository decide."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from buildkit.plan.explain.causes import Cause, CauseKind
from buildkit.plan.explain.comparison import LayerComparison
from buildkit.plan.explain.root_diff import compare_apt_step
from buildkit.plan.explain.value_diff import changed_setting, compare_env, compare_files, compare_items
from buildkit.plan.spec import BuildContainerfile, Kind, PackFiles, PackModel, RunStep, is_readable_format

_SCRIPT = ["/bin/sh", "-eu", "-c"]
_SHORT = 10  # digits of a commit


def compare_root_items(layer: LayerComparison, part: str) -> Iterator[Cause]:
    """Compare a list of the ``[root]`` table."""
    yield compare_items(part, layer.old[part], layer.new[part], where=layer.locate_key(f"root.{part}"))


def compare_listed_layers(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the layers that an SBOM lists, by name and key."""
    yield _compare_rows(layer, "layers")


def compare_listed_models(layer: LayerComparison) -> Iterator[Cause]:
    """Compare what an SBOM says about models."""
    yield _compare_rows(layer, "models")


def _compare_rows(layer: LayerComparison, part: str) -> Cause:
    old, new = ([" ".join(row) for row in recipe[part]] for recipe in (layer.old, layer.new))
    return compare_items(part, old, new, where=layer.locate_key("sbom"))


def compare_users(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the accounts of a root."""
    where = layer.locate_key("root.user")
    old, new = ({name: row for name, *row in rows} for rows in (layer.old["users"], layer.new["users"]))
    if list(old) != list(new):
        yield compare_items("users", list(old), list(new), where=where)
    for name in sorted(old.keys() & new.keys()):
        (uid, gid, home, shell), (new_uid, new_gid, new_home, new_shell) = old[name], new[name]
        fields = [("home", home, new_home), ("shell", shell, new_shell), ("uid", uid, new_uid)]
        if uid != gid or new_uid != new_gid:  # else the group follows the account
            fields.append(("gid", gid, new_gid))
        for key, before, after in fields:
            if before != after:
                yield changed_setting(key, before, after, where=where, of=f"user {name}")


def compare_step_env(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the environments of a step."""
    yield from compare_env(layer.old["env"], layer.new["env"], where=layer.locate_key("run.env"), of=layer.step)


def compare_command(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the commands of a step: its script, its arguments, or the packages that ``[apt]`` installs."""
    old, new = layer.old["command"], layer.new["command"]
    if causes := list(compare_apt_step(layer, old, new)):
        yield from causes
        return
    key = "script" if new[:3] == _SCRIPT else "command"
    before, after = _format_command(old), _format_command(new)
    yield changed_setting(key, before, after, where=layer.locate_key(f"run.{key}"), of=layer.step)


def _format_command(words: Sequence[str]) -> str:
    return " ".join(words[3:] if words[:3] == _SCRIPT else words)


def compare_layer_files(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the files of the repository, or of a model, that a layer holds."""
    work = layer.spec.work
    if isinstance(work, PackFiles):
        yield from compare_files(layer.old["files"], layer.new["files"], work.tree.path)
    elif isinstance(work, PackModel):
        yield from _compare_model_files(layer, work)


def compare_context(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the files of the context that a Containerfile reads."""
    work = layer.spec.work
    path = work.context.path if isinstance(work, BuildContainerfile) else ""
    yield from compare_files(layer.old["context"], layer.new["context"], path)


def _compare_model_files(layer: LayerComparison, work: PackModel) -> Iterator[Cause]:
    """Compare files of a model. A large file has a layer of its own, so a file that grows or shrinks changes layers."""
    names = {work.place(file): file.path for file in work.model.files}  # a cache of a hub has them by hash
    old, new = dict(layer.old["files"]), dict(layer.new["files"])
    before = _last_model_files(layer, work.target)
    now = names.keys()
    for path in sorted(old.keys() | new.keys()):
        name = names.get(path, path)
        where = layer.locations.model_file(layer.stage, work.model.name, name)
        if path not in new and path not in now:
            yield Cause(CauseKind.MODEL_FILE_REMOVED, model=work.model.name, path=name, where=where)
        elif path not in old and path not in before:
            yield Cause(CauseKind.MODEL_FILE_ADDED, model=work.model.name, path=name, where=where)
        elif old.get(path) != new.get(path):
            yield Cause(CauseKind.MODEL_FILE_CHANGED, model=work.model.name, path=name, where=where)


def _last_model_files(layer: LayerComparison, target: str) -> set[str]:
    """Return the paths that any layer of the last build had of the model at ``target``."""
    recipes = [json.loads(recipe) for recipe in layer.history.last.values()]
    models = [recipe for recipe in recipes if recipe.get("kind") == Kind.MODEL and recipe.get("target") == target]
    return {row[0] for recipe in models if is_readable_format(recipe.get("format")) for row in recipe["files"]}


def compare_snapshot(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the commits of a model in a cache of a hub, the names of the commit, and the files' names."""
    old, new = layer.old["hub"], layer.new["hub"]
    where = layer.locate_key("models.lock")
    if old["commit"] != new["commit"]:
        yield changed_setting("commit", old["commit"][:_SHORT], new["commit"][:_SHORT], where=where)
    for key in ("refs", "files"):
        if old[key] != new[key]:
            yield changed_setting(key, old[key], new[key], where=where)


def compare_module(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the files of ``xoe_runtime``, which come with buildkit."""
    old, new = dict(layer.old["module"]), dict(layer.new["module"])
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    yield changed_setting(f"xoe_runtime of this buildkit ({', '.join(names)})", "", "", where="")


def compare_framework(layer: LayerComparison) -> Iterator[Cause]:
    """Compare settings of frameworks, each by its key in the stage file."""
    old, new = _flat(layer.old["settings"]), _flat(layer.new["settings"])
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "unset"), new.get(key, "unset")
        if before != after:
            yield changed_setting(f"framework.{key}", before, after, where=layer.locate_key(f"framework.{key}"))


def _flat(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return values by the keys of the stage file, ``torch.memory-fraction``; fractions and lists as text."""
    tables = {name: value if isinstance(value, dict) else {"": value} for name, value in settings.items()}
    return {
        f"{name}.{key}".rstrip(".").replace("_", "-"): value
        if isinstance(value, bool | int | str)
        else json.dumps(value)
        for name, table in tables.items()
        for key, value in table.items()
    }


def compare_mounts(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the trees that a step sees."""
    where = layer.locate_key("run.mount")
    work = layer.spec.work
    trees = [tree.path for tree, _ in work.mounts] if isinstance(work, RunStep) else []
    old, new = _by_target(layer.old["mounts"]), _by_target(layer.new["mounts"])
    sources = dict(zip(new, trees, strict=True))
    causes: list[Cause] = []
    for mount in [*old, *(mount for mount in new if mount not in old)]:
        if mount not in new:
            causes.append(Cause(CauseKind.MOUNT_REMOVED, target=mount[0], where=where))
        elif mount not in old:
            causes.append(Cause(CauseKind.MOUNT_ADDED, target=mount[0], source=sources[mount], where=where))
        else:
            causes += compare_files(old[mount], new[mount], sources[mount])
    yield from causes or [Cause(CauseKind.MOUNTS_REORDERED, where=where)]


def _by_target(mounts: Iterable[Sequence[Any]]) -> dict[tuple[str, int], Any]:
    """Return listings by target and by which of the mounts at that target it is."""
    counts: Counter[str] = Counter()
    listings = {}
    for target, listing in mounts:
        listings[target, counts[target]] = listing
        counts[target] += 1
    return listings
