"""Reads the files of a models lock as `nox -s lock` writes them, ten times as fast as TOML is parsed.

Whatever is written in another way stays text, for the parser of TOML. So a lock has one meaning, however it is read.
"""

from __future__ import annotations

import re
from typing import Any

from buildkit.digest import FileHash
from buildkit.locks.pins import ModelFile

_TEXT = r'[^"\\\x00-\x1f\x7f]'  # of a TOML string that has no escapes
_PATH = rf'(?!\.\.?[/"])(?![^"\n]*/\.\.?[/"])(?!/){_TEXT}++'  # as models_lock.py has it
_FILE = re.compile(
    r"^\[\[model\.file\]\]\n"
    rf'path = "(?P<path>{_PATH})"\n'
    r'sha256 = "(?P<sha256>[0-9a-f]{64})"\n'
    r"size = (?P<size>0|[1-9][0-9]{0,14})\n"  # less than a pebibyte
    rf'source = "(?P<source>{_TEXT}*+)"\n\n?',
    re.MULTILINE,
)
_MARK = "run-of-files"
_ANY = {"path": "x", "sha256": "0" * 64, "size": 0, "source": ""}
_LONG_STRINGS = ('"""', "'''")  # may hold lines that only look like tables

Run = tuple[ModelFile, ...]


class FileRuns:
    """A lock's text, in which one small table stands for each run of files."""

    def __init__(self, text: str, *, fold: bool = True) -> None:
        self._runs: list[Run] = []
        self._places: dict[tuple[int, int], Run] = {}
        fold = fold and not any(word in text for word in (_MARK, *_LONG_STRINGS))
        self.text = "".join(self._fold(text)) if fold else text

    def _fold(self, text: str) -> list[str]:
        parts, run, end = list[str](), list[ModelFile](), -1
        for found in _FILE.finditer(text):
            if found.start() != end:
                parts += (*self._close(run), text[max(end, 0) : found.start()])
                run = []
            path, sha256, size, source = found.groups()
            run.append(ModelFile(path=path, sha256=FileHash(sha256), size=int(size), source=source))
            end = found.end()
        return [*parts, *self._close(run), text[max(end, 0) :]]

    def _close(self, run: list[ModelFile]) -> list[str]:
        if not run:
            return []
        self._runs.append(tuple(run))
        return [f"[[model.file]]\n{_MARK} = {len(self._runs) - 1}\n\n"]

    def unfold(self, table: dict[str, Any]) -> None:
        """Remember where the runs are in the parsed ``text``, and put a file in the place of each."""
        models = table.get("model")
        for number, model in enumerate(models if self._runs and isinstance(models, list) else ()):
            files = model.get("file", ())
            for place, file in enumerate(files):
                if file.keys() == {_MARK}:  # else something was written below it
                    self._places[number, place] = self._runs[file[_MARK]]
                    files[place] = _ANY

    def find(self, model: int, file: int) -> Run | None:
        """Return the run whose place the file has, both by their number; None for a file that is one."""
        return self._places.get((model, file))
