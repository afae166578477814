"""Translate one target of a Containerfile into the draft of an image. Pure.

What runs is not copied but understood: an installation becomes a list or a lock, a ``COPY`` a layer of files. Whatever
is not understood is left over, with its line and with what a person can do.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace

from buildkit.adopt.copies import (
    copy_files,
    copy_source,
    copy_texts,
    find_copies,
    is_tool_copy,
    split_copy,
)
from buildkit.adopt.draft import CopyDraft, ImageDraft, Leftover
from buildkit.adopt.image_config import read_argument, read_config, read_environment, read_shell
from buildkit.adopt.reading import ContainerfileReading, RepositoryFacts, StageFiles
from buildkit.adopt.roots import advise_root, choose_root, has_compilers, with_python
from buildkit.adopt.runs import read_run
from buildkit.declare.instructions import Instruction, ParsedContainerfile, SourceStage

_NODE = re.compile(r"(?:\S*/)?(?:node|bun|deno)(?:[:@].*)?")
_PYTHON_PACKAGE = re.compile(r"python(3\.\d+)(?:-minimal|-full)?")


def translate(
    file: ParsedContainerfile, target: SourceStage, tree: RepositoryFacts, arguments: Mapping[str, str] | None = None
) -> tuple[ImageDraft, tuple[Leftover, ...]]:
    """Return the draft of the image that ``target`` makes, for the stage ``tree.stage``, and what is left over.

    ``arguments`` are values of build arguments, as a compose file gives them.
    """
    translation = _Translation(file, tree, arguments or {})
    translation.read(target)
    return translation.finish()


class _Translation:
    def __init__(self, file: ParsedContainerfile, tree: RepositoryFacts, arguments: Mapping[str, str]) -> None:
        outer = dict(file.arguments) | dict(arguments)
        image = ImageDraft(name=tree.stage)
        self._reading = ContainerfileReading(
            file=replace(file, arguments=tuple(outer.items())), tree=tree, image=image, values=dict(outer)
        )
        self._given = arguments
        self._stages = {stage.name.lower(): stage for stage in file.stages if stage.name}
        self._done: dict[int, StageFiles] = {}

    def finish(self) -> tuple[ImageDraft, tuple[Leftover, ...]]:
        image, files = self._reading.image, self._reading.files
        image.workdir = files.workdir
        image.copies = find_copies(files)
        for place in image.installed:  # the package is installed; its sources are of no use beside the working folder
            source = files.places.get(place)
            if source is not None and posixpath.commonpath((place, image.workdir or place)) != place:
                image.copies.pop(CopyDraft(source=source, target=place), None)
        used = {copy.source for copy in image.copies}
        image.texts = {path: text for path, text in files.generated.items() if path in used}
        if image.root is not None and image.root.image:
            minors = [found[1] for name in image.apt if (found := _PYTHON_PACKAGE.fullmatch(name))]
            image.root = with_python(image.root, minors[0]) if minors else image.root
        leftovers = self._reading.leftovers.values()
        return image, tuple(sorted(leftovers, key=lambda found: (found.file != self._reading.file.path, found.line)))

    def read(self, stage: SourceStage) -> None:
        """Read a stage after the one that it continues."""
        reading = self._reading
        if stage.line in self._done:
            reading.files = self._done[stage.line].copy()
            return
        base = reading.expand(stage.base)
        if base is None:
            reading.leave(_from(stage), "a variable has no value here: give its ARG a default")
            return
        earlier = self._stages.get(base.lower())
        if earlier is not None and earlier.line < stage.line:
            self.read(earlier)
        else:
            reading.image.compilers |= has_compilers(base)
            if not reading.is_dependency:
                self._choose_root(stage, base)
        for instruction in stage.instructions:
            self._read_instruction(instruction)
        self._done[stage.line] = reading.files.copy()

    def _choose_root(self, stage: SourceStage, base: str) -> None:
        reading = self._reading
        if base.lower() == "scratch":
            reading.leave(_from(stage), "the image stands on Debian here, which brings Python")
            return
        root = choose_root(base, reading.tree.python)
        reading.image.root = root
        if advice := advise_root(base, root, reading.tree.stage):
            reading.leave(_from(stage), advice)

    def _read_instruction(self, instruction: Instruction) -> None:
        reading = self._reading
        value = reading.expand(instruction.value)
        match instruction.name:
            case "RUN":
                read_run(reading, instruction)
            case "COPY" | "ADD":
                self._copy(instruction, value)
            case "ARG":
                name = instruction.value.partition("=")[0]
                given = f"{name}={self._given[name]}" if name in self._given else instruction.value
                read_argument(reading, replace(instruction, value=given))
            case "ENV":
                read_environment(reading, instruction)
            case "WORKDIR" if value is not None:
                reading.files.workdir = reading.files.absolute(value)
            case "SHELL":
                read_shell(reading, instruction)
            case _ if reading.is_dependency:
                return  # nobody needs the config of a stage that is only copied from
            case _:
                read_config(reading, instruction, value)

    def _copy(self, instruction: Instruction, value: str | None) -> None:
        reading = self._reading
        if instruction.heredocs:
            copy_texts(reading, instruction)
            return
        split = split_copy(instruction, value) if value is not None else None
        if split is None:
            reading.leave(instruction, "it has no target" if value is not None else "write the paths out")
            return
        sources, target = split
        origin = instruction.flag("from")
        if origin is not None:
            self._copy_from(instruction, reading.expand(origin) or origin, sources, target)
            return
        for source in sources:
            copy_source(reading, instruction, source, target, several=len(sources) > 1)

    def _copy_from(self, instruction: Instruction, origin: str, sources: tuple[str, ...], target: str) -> None:
        reading = self._reading
        stage = self._stages.get(origin.lower())
        if stage is None and origin.isdigit() and int(origin) < len(reading.file.stages):
            stage = reading.file.stages[int(origin)]
        if stage is None:
            if not is_tool_copy(sources):
                advice = f"copies from the image {origin}: fetch the files into the repository, or install a package"
                reading.leave(instruction, advice)
            return
        files = self._read_dependency(stage)
        places = [reading.expand(source) or source for source in sources]
        if self._is_node(stage):
            reading.leave(instruction, _advise_node(files, places[0], reading.files.absolute(target)))
            return
        known = [copy_files(files, place, target, reading.files) for place in places]
        if not all(known):
            advice = "another build stage makes it: build it outside and copy it, or make it by a [[run]] step"
            reading.leave(instruction, advice)

    def _is_node(self, stage: SourceStage) -> bool:
        base = self._reading.expand(stage.base) or stage.base
        earlier = self._stages.get(base.lower())
        if earlier is not None and earlier.line < stage.line:
            return self._is_node(earlier)
        return _NODE.fullmatch(base) is not None

    def _read_dependency(self, stage: SourceStage) -> StageFiles:
        """Read a stage that files are copied from: its packages are the image's, what it compiles with is not."""
        reading = self._reading
        kept = reading.files, reading.values, reading.is_dependency, reading.shell
        left = dict(reading.leftovers)
        reading.files, reading.values, reading.is_dependency = StageFiles(), dict(reading.values), True
        self.read(stage)
        found = reading.files
        reading.files, reading.values, reading.is_dependency, reading.shell = kept
        if self._is_node(stage):
            reading.leftovers = left  # its COPY says what to do about all of it
        return found


def _from(stage: SourceStage) -> Instruction:
    return Instruction(name="FROM", value=stage.base, line=stage.line)


def _advise_node(files: StageFiles, source: str, target: str) -> str:
    """Return what to write for a folder that Node.js builds."""
    path = files.find_source(posixpath.normpath(source))
    if path is None:
        return "what Node.js builds: build it outside, and copy the result with `untracked = true`"
    return "\n".join(
        (
            "what Node.js builds: build it before the image, and copy the result in the stage file:",
            "  [[copy]]",
            f'  source = "/{path}"',
            f'  target = "{target}"',
            "  untracked = true",
        )
    )
