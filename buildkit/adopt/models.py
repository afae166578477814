"""Which files of a repository become models, with layers of their own, at the place of the copy. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from buildkit.adopt.draft import CopyDraft, ImageDraft, ModelDraft

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def add_models(
    image: ImageDraft, files: Mapping[str, tuple[str, ...]], others: Mapping[str, bool], taken: Mapping[str, str]
) -> None:
    """Make the model files among the copies models of the image; a copy that holds nothing else is dropped.

    ``files`` are names of model files by their folder, ``others`` tells of a folder whether it has files that are no
    models, and ``taken`` are the sources of models of other images by their names.
    """
    known = {**taken, **{model.name: model.source for model in image.models}}
    for folder, names in files.items():
        place = next((place for copy in image.copies if (place := _place_of(folder, copy.source, copy.target))), "")
        name, source = posixpath.basename(place), f"path:{folder}"
        if not _NAME.fullmatch(name) or known.setdefault(name, source) != source or " " in source:
            continue
        kept = names if others.get(folder, True) else ()
        model = ModelDraft(name=name, source=source, files=kept, target=posixpath.dirname(place))
        image.models[model] = None
        if not kept:
            image.copies.pop(CopyDraft(source=folder, target=place), None)


def _place_of(folder: str, source: str, target: str) -> str:
    """Return where a folder is in the image if ``source`` is copied to ``target``; empty if it is not."""
    if source in (".", folder):
        rest = "" if source == folder else folder
    elif folder.startswith(f"{source}/"):
        rest = folder[len(source) + 1 :]
    else:
        return ""
    return posixpath.normpath(posixpath.join(target, rest))
