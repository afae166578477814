"""The causes for which a layer is built, their sentences, and their JSON.

``str`` of a cause is one line without a hash. ``where`` is what the user would open: a file, ``file:line`` or
``file: key``; it is empty where there is nothing to open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any

_MOST_LISTED = 3


class CauseKind(StrEnum):
    """The kinds of causes; the values are their names in JSON."""

    FIRST_BUILD = "first-build"  # neither the stage nor, for another stage, any of its layers was ever built
    NEW_LAYER = "new-layer"  # the last image had no layer of this name
    KIND_CHANGED = "kind-changed"  # a layer of another kind had this name
    FORMAT_CHANGED = "format-changed"  # this buildkit packs different bytes from the same recipe

    EVICTED = "evicted"  # gc removed the layer
    DAMAGED = "damaged"  # the layer's blob did not hold the bytes that it should
    ROW_DAMAGED = (
        "row-damaged"  # the ledger's row of the layer is not what was written; ``at`` is 0 until it is removed
    )
    ONLY_SHARED = "only-shared"  # another machine built the layer, and its bytes were never needed here
    BLOB_GONE = "blob-gone"  # the layer was built before, and its blob has been removed since
    FORGOTTEN = "forgotten"  # nothing changed, but the cache has no record of the layer any more

    SETTING_CHANGED = "setting-changed"  # a key of a stage file or of the settings
    ITEMS_CHANGED = "items-changed"  # a list or table of a stage file has other items, or another order
    FILE_CHANGED = "file-changed"  # a file of the repository has other content
    FILE_ADDED = "file-added"
    FILE_REMOVED = "file-removed"
    MODE_CHANGED = "mode-changed"  # a file became executable or a link, or stopped being one
    LINK_CHANGED = "link-changed"  # a symbolic link has another target
    MODEL_FILE_CHANGED = "model-file-changed"
    MODEL_FILE_ADDED = "model-file-added"  # a file of a model is new, or had a layer of its own before
    MODEL_FILE_REMOVED = "model-file-removed"  # a file of a model is gone, or has a layer of its own now
    MOUNT_ADDED = "mount-added"  # a step sees files of the repository that it did not see before
    MOUNT_REMOVED = "mount-removed"
    MOUNTS_REORDERED = "mounts-reordered"

    PIN_CHANGED = "pin-changed"  # a wheel has another version
    PIN_ADDED = "pin-added"
    PIN_REMOVED = "pin-removed"
    WHEEL_MOVED = "wheel-moved"  # a wheel moved between a bin and a layer of its own, or between two bins
    ARTIFACT_CHANGED = "artifact-changed"  # the same version is another file, or is compiled here now, or no longer
    COMPILED_ANEW = "compiled-anew"  # a wheel is compiled again: its source or the builder changed
    SOURCE_CHANGED = "source-changed"  # the sdist of a wheel is another file of the same version
    BUILDER_CHANGED = "builder-changed"  # the stage that compiles sdists changed; how is no longer known
    PACKAGE_CHANGED = "package-changed"  # a Debian package of a stage's root has another version
    PACKAGE_ADDED = "package-added"
    PACKAGE_REMOVED = "package-removed"
    INTERPRETER_CHANGED = "interpreter-changed"  # the Python that a root holds and that compiles bytecode
    IMAGE_CHANGED = "image-changed"  # a root is another image of a registry, often with only another digest
    STEP_ADDED = "step-added"
    STEP_REMOVED = "step-removed"
    ROOT_BELOW_CHANGED = "root-below-changed"  # something changed that a step runs on


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause; which fields apply depends on the kind.

    ``name`` is a pin, a package or an sdist; ``path`` is relative to the project, or to the folder of ``model``.
    ``before`` and ``after`` are versions or values, empty where they are too long to print. ``of`` names the step or
    user that a ``key`` belongs to; ``at`` is in seconds since the epoch; ``because`` is the cause of this cause, where
    it is still known.
    """

    kind: CauseKind
    _: KW_ONLY
    where: str = ""
    name: str = ""
    version: str = ""
    key: str = ""
    before: str | int = ""
    after: str | int = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    of: str = ""
    stage: str = ""
    step: str = ""
    layer: str = ""
    path: str = ""
    model: str = ""
    source: str = ""
    target: str = ""
    repository: str = ""
    at: float = 0.0
    why: str = ""
    because: Cause | None = None

    def __str__(self) -> str:
        message = _FORMS[self.kind].message
        return one_line(message(self) if callable(message) else message.format_map(_values(self)))

    def as_json(self) -> dict[str, Any]:
        """Return ``{"cause": "pin-changed", "text", "where"}`` and the fields of the kind."""
        values = {field: getattr(self, field) for field in _FORMS[self.kind].fields}
        values = {name: value.as_json() if isinstance(value, Cause) else value for name, value in values.items()}
        return {"cause": str(self.kind), "text": str(self), "where": self.where, **values}


def format_cause(cause: Cause) -> str:
    """Return the line of one cause and where it is: ``numpy 2.4.0 → 2.5.1 (requirements/ml.txt:46)``."""
    where = one_line(cause.where)
    return f"{cause} ({where})" if where and where not in str(cause) else str(cause)


def format_causes(causes: Sequence[Cause]) -> str:
    """Return one short line for a report: a single cause with its place, or the first three and a count of the rest."""
    lines = list(dict.fromkeys(map(str, causes)))
    if len(lines) == 1:
        return format_cause(causes[0])
    more = f" and {len(lines) - _MOST_LISTED} more" if len(lines) > _MOST_LISTED else ""
    return ", ".join(lines[:_MOST_LISTED]) + more


def one_line(text: str) -> str:
    """Replace line breaks and control characters, which names of files may hold."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The fields that a kind of cause shows in JSON, and its sentence: a template, or a function of the cause."""

    fields: tuple[str, ...] = ()
    message: str | Callable[[Cause], str]


def _form(fields: str, message: str | Callable[[Cause], str]) -> _Form:
    return _Form(fields=tuple(fields.split()), message=message)


def _values(cause: Cause) -> dict[str, object]:
    """Return what templates may name: the fields of the kind, and phrases that are empty where their field is."""
    return {
        **{field: getattr(cause, field) for field in _FORMS[cause.kind].fields},
        "pin": _pin(cause),
        "in_stage": _in_stage(cause),
        "day": _day(cause.at),
        "reason": f": {cause.why}" if cause.why else "",
        "because": f": {cause.because}" if cause.because else "",
    }


def _pin(cause: Cause) -> str:
    return f"{cause.name} {cause.version}".rstrip()  # a package of the repository may have no known version


def _in_stage(cause: Cause) -> str:
    return f" in {cause.stage}" if cause.stage else ""


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))  # the user's day, as in all output


def _row_damaged(cause: Cause) -> str:
    removed = f" and removed on {_day(cause.at)}" if cause.at else ""
    return f"its row in the ledger was damaged{removed}" + (f": {cause.why}" if cause.why else "")


def _key(cause: Cause) -> str:
    return f"{cause.key} of {cause.of}" if cause.of else cause.key


def _setting_changed(cause: Cause) -> str:
    short = cause.before and cause.after
    return f"{_key(cause)} {cause.before} → {cause.after}" if short else f"{_key(cause)} changed"


def _items_changed(cause: Cause) -> str:
    added, removed = cause.added, cause.removed
    if not added and not removed:
        return f"{_key(cause)} reordered"
    if len(added) + len(removed) > _MOST_LISTED:
        return f"{_key(cause)}: {len(added)} added, {len(removed)} removed"
    return f"{_key(cause)}: " + ", ".join([f"{item} added" for item in added] + [f"{item} removed" for item in removed])


def _pin_changed(cause: Cause) -> str:
    return f"{cause.name} {cause.before or '?'} → {cause.after or '?'}"


def _artifact_changed(cause: Cause) -> str:
    change = f"{cause.before} → {cause.after}" if cause.before != cause.after else "different file"
    return f"{_pin(cause)}: {change}"


def _interpreter_changed(cause: Cause) -> str:
    if cause.because:
        return f"the root that compiles bytecode: {cause.because}"
    if cause.before != cause.after:
        return f"python {cause.before} → {cause.after}{_in_stage(cause)}"
    return f"a different Python compiles bytecode{_in_stage(cause)}"


def _image_changed(cause: Cause) -> str:
    before, after = (str(ref).partition("@")[0] for ref in (cause.before, cause.after))
    return f"image {before} → {after}" if before != after else f"image {after}: new digest"


def _root_below_changed(cause: Cause) -> str:
    return f"a layer below: {cause.because}" if cause.because else f"a layer below: {cause.layer} changed"


_FORMS: Mapping[CauseKind, _Form] = {
    CauseKind.FIRST_BUILD: _form("", "first build"),
    CauseKind.NEW_LAYER: _form("", "new layer"),
    CauseKind.KIND_CHANGED: _form("before after", "kind of layer {before} → {after}"),
    CauseKind.FORMAT_CHANGED: _form("before after", "packer format {before} → {after}"),
    CauseKind.EVICTED: _form("at why", "evicted by gc on {day}{reason}"),
    CauseKind.DAMAGED: _form("at why", "its blob was damaged and removed on {day}{reason}"),
    CauseKind.ROW_DAMAGED: _form("at why", _row_damaged),
    CauseKind.ONLY_SHARED: _form("repository", "it is only in the remote cache {repository}, which is not used here"),
    CauseKind.BLOB_GONE: _form("", "its blob is missing from the cache"),
    CauseKind.FORGOTTEN: _form("", "no longer in the cache"),
    CauseKind.SETTING_CHANGED: _form("key before after of", _setting_changed),
    CauseKind.ITEMS_CHANGED: _form("key added removed of", _items_changed),
    CauseKind.FILE_CHANGED: _form("path", "{path} changed"),
    CauseKind.FILE_ADDED: _form("path", "{path} added"),
    CauseKind.FILE_REMOVED: _form("path", "{path} removed"),
    CauseKind.MODE_CHANGED: _form("path before after", "{path}: {before} → {after}"),
    CauseKind.LINK_CHANGED: _form("path before after", "{path}: link to {before} → link to {after}"),
    CauseKind.MODEL_FILE_CHANGED: _form("model path", "{path} of model {model} changed"),
    CauseKind.MODEL_FILE_ADDED: _form("model path", "{path} of model {model} added"),
    CauseKind.MODEL_FILE_REMOVED: _form("model path", "{path} of model {model} removed"),
    CauseKind.MOUNT_ADDED: _form("target source", "mount {source} at {target} added"),
    CauseKind.MOUNT_REMOVED: _form("target", "mount at {target} removed"),
    CauseKind.MOUNTS_REORDERED: _form("", "mounts reordered"),
    CauseKind.PIN_CHANGED: _form("name before after", _pin_changed),
    CauseKind.PIN_ADDED: _form("name version", "{pin} added"),
    CauseKind.PIN_REMOVED: _form("name version", "{pin} removed"),
    CauseKind.WHEEL_MOVED: _form("name version before after", "{pin} moved from {before} to {after}"),
    CauseKind.ARTIFACT_CHANGED: _form("name version before after", _artifact_changed),
    CauseKind.COMPILED_ANEW: _form("name version because", "{name} recompiled{because}"),
    CauseKind.SOURCE_CHANGED: _form("name", "its sdist `{name}` is a different file"),
    CauseKind.BUILDER_CHANGED: _form("stage", "stage `{stage}` changed"),
    CauseKind.PACKAGE_CHANGED: _form("name before after stage", "{name} {before} → {after}{in_stage}"),
    CauseKind.PACKAGE_ADDED: _form("name version stage", "{name} {version} added{in_stage}"),
    CauseKind.PACKAGE_REMOVED: _form("name version stage", "{name} {version} removed{in_stage}"),
    CauseKind.INTERPRETER_CHANGED: _form("stage before after because", _interpreter_changed),
    CauseKind.IMAGE_CHANGED: _form("before after", _image_changed),
    CauseKind.STEP_ADDED: _form("step", "step {step} added"),
    CauseKind.STEP_REMOVED: _form("step", "step {step} removed"),
    CauseKind.ROOT_BELOW_CHANGED: _form("layer because", _root_below_changed),
}
