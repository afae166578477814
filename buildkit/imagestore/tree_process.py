"""TreeFolder with owners other than the user, handled in the user namespace of the user's containers.

``python -m buildkit.imagestore.tree_process`` runs there, as its root: ``write FOLDER`` makes a tree of the tar on its
standard input, ``read TREE TAR_SPLIT`` writes the tar of one to its standard output, ``check TREE TAR_SPLIT`` writes
what was altered, ``remove PATH…`` removes folders. ``write`` reports ``{"error": …}`` or the facts of the tree as a
line of JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from buildkit.errors import BuildError, BuildkitError, DamagedError, ToolError, describe_disk_error
from buildkit.imagestore.tree_check import find_alteration
from buildkit.imagestore.tree_facts import TreeFacts
from buildkit.imagestore.tree_maker import TreeMaker
from buildkit.imagestore.tree_reader import read_tree
from buildkit.layers.tar.blob_stream import TarPiece
from buildkit.tools.isolation import in_user_namespace
from buildkit.tools.process import Command, converse, run, stream

_BLOCK = 1 << 20

# the caller


class TreeProcess:
    """A process that makes a tree of the tar that it is given."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def take(self, pieces: Sequence[TarPiece], /) -> None:
        """Send the next pieces of the tar. Raises the error of the process, which has ended then."""
        try:
            for piece in pieces:
                self._stdin.write(piece.data)
        except BrokenPipeError:
            self.finish()
            raise

    def finish(self) -> TreeFacts:
        """End the tree, and return its facts. Raises the error of the process."""
        with suppress(BrokenPipeError):  # its answer says why
            self._stdin.close()
        answer = self._stdout.readline()
        if not answer:
            raise BuildError("the process that writes a tree in the user namespace has died")
        value = json.loads(answer)
        if "error" in value:
            raise BuildkitError.from_json(value["error"])
        return TreeFacts.from_json(answer)


@contextmanager
def start_tree_process(folder: Path) -> Iterator[TreeProcess]:
    """Start a process that writes a tree into ``folder``; it ends with the block. Raises MissingTool, ToolError."""
    command = Command(argv=_argv("write", str(folder)), what="writing a layer in the user namespace", writes=(folder,))
    with converse(command) as (stdin, stdout):
        yield TreeProcess(stdin, stdout)


def read_in_namespace(tree: Path, tar_split: Path) -> Iterator[bytes]:
    """Yield the tar of a tree that the user cannot read without a namespace. Raises DamagedError, ToolError."""
    command = Command(argv=_argv("read", str(tree), str(tar_split)), what="reading a layer in the user namespace")
    try:
        with closing(stream(command)) as chunks:
            yield from chunks
    except ToolError as error:
        last = error.output.rpartition("\n")[2]
        if not last.startswith('{"kind"'):
            raise
        raise BuildkitError.from_json(json.loads(last)) from error


def find_alteration_in_namespace(tree: Path, tar_split: Path) -> str:
    """Return what was altered in such a tree (`tree_check.find_alteration`). Raises ToolError."""
    command = Command(argv=_argv("check", str(tree), str(tar_split)), what="reading a layer in the user namespace")
    return run(command).text


def remove_in_namespace(paths: Iterable[Path]) -> None:
    """Remove folders that hold files of others than the user. Raises ToolError."""
    run(Command(argv=_argv("remove", *map(str, paths)), what="removing a layer in the user namespace", is_cleanup=True))


def _argv(*words: str) -> tuple[str, ...]:
    return in_user_namespace((sys.executable, "-P", "-m", "buildkit.imagestore.tree_process", *words))


# the process


def main(arguments: list[str]) -> int:
    """Do what the arguments say; return the exit code."""
    verb, *paths = arguments
    if verb == "write":
        return _write(Path(paths[0]))
    if verb == "read":
        return _read(Path(paths[0]), Path(paths[1]))
    if verb == "check":
        sys.stdout.write(find_alteration(Path(paths[0]), Path(paths[1])))
        return 0
    for path in paths:
        shutil.rmtree(path)
    return 0


def _read(tree: Path, tar_split: Path) -> int:
    try:
        for chunk in read_tree(tree, tar_split):
            sys.stdout.buffer.write(chunk)
    except DamagedError as error:
        sys.stderr.write(json.dumps(error.as_json()) + "\n")
        return 1
    return 0


def _write(folder: Path) -> int:
    try:
        with TreeMaker(folder, owners=True, rootless=True) as maker:
            while block := sys.stdin.buffer.read(_BLOCK):
                maker.write(block)
            answer = asdict(maker.finish())
    except BuildkitError as error:
        answer = {"error": error.as_json()}
    except OSError as error:
        answer = {"error": BuildError(f"{folder}: {describe_disk_error(error) or error}").as_json()}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
