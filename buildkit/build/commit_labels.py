"""Labels of the commit that a pushed image was built from: revision and created.

They are in pushed images alone, and only if the project asks for them: with them a commit that changes no input would
give every image another config, and a build with nothing to do would import it again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from buildkit.declare.project import Project
from buildkit.digits import find_number
from buildkit.errors import DefinitionError
from buildkit.oci.image import REVISION, Image
from buildkit.supply.document_identity import render_time
from buildkit.tools.git import find_commit, find_commit_time

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def label_commit(image: Image, project: Project) -> Image:
    """Return the image as it is pushed: with the commit's labels if the project has them and files do not differ."""
    commit = find_commit(project.folder) if project.commit_labels else None
    return image if commit is None or commit.dirty else _label(image, commit.id, commit.time)


def label_as(image: Image, config: bytes, project: Project) -> Image:
    """Return the image with the labels of the commit that another image's config names.

    It is unchanged if the project has no such labels, or the repository no such commit. The config is not trusted.
    """
    revision = _find_revision(config) if project.commit_labels else ""
    seconds = find_commit_time(project.folder, revision) if revision else None
    return image if seconds is None else _label(image, revision, seconds)


def ready_arguments(folder: Path) -> Mapping[str, str]:
    """Return the build arguments that the checkout gives: its commit, ``-dirty`` if files differ, and the time.

    Raises DefinitionError without a commit.
    """
    commit = find_commit(folder)
    if commit is None:
        raise DefinitionError("a label uses the commit, and there is none", hint="commit, or take ${GIT_COMMIT} out")
    seconds = source_time(commit.time)
    when = render_time(commit.time if seconds is None else seconds)
    return {"GIT_COMMIT": f"{commit.id}-dirty" if commit.dirty else commit.id, "GIT_TIME": when}


def source_time(committed: int | None) -> int | None:
    """Return SOURCE_DATE_EPOCH (reproducible-builds.org) if it is set, else the commit's time, in seconds."""
    epoch = find_number(os.environ.get("SOURCE_DATE_EPOCH", ""))
    return committed if epoch is None or epoch >= 10**11 else epoch


def _label(image: Image, revision: str, committed: int) -> Image:
    seconds = source_time(committed)
    return image.of_commit(revision, render_time(committed if seconds is None else seconds))


def _find_revision(config: bytes) -> str:
    """Return the commit that a config's label names; empty if there is no id of one."""
    try:
        labels = json.loads(config)["config"]["Labels"]
        revision = labels[REVISION]
    except (KeyError, RecursionError, TypeError, ValueError):
        return ""
    return revision if isinstance(revision, str) and _ID.fullmatch(revision) else ""
