"""What is remembered from one start of the container to the next, in the state folder."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .kept import Call

CODE_DAYS = 7
"""Code that was not used for so long is removed."""


class Remembered:
    """The state folder: learnt modules, calls of what is kept, code by hash; a temporary one if none is given."""

    def __init__(self, folder: Path | None) -> None:
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="reload-"))
        for name in ("code", "calls", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._calls: dict[str, Call] = {}
        for file in (self.folder / "calls").glob("*.call"):
            self.add_call(file)
        for file in (self.folder / "run").iterdir():
            file.unlink(missing_ok=True)
        self._remove_old_code()

    def close(self) -> None:
        """Remove a temporary folder."""
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    def load_modules(self) -> list[str]:
        """Return the learnt modules of this Python; none where nothing usable is remembered."""
        try:
            found = json.loads((self.folder / "modules.json").read_text("utf-8"))
        except (OSError, ValueError):
            return []
        if not isinstance(found, dict) or found.get("python") != sys.version:
            return []
        names = found.get("modules")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def save_modules(self, names: list[str]) -> None:
        """Remember the learnt modules; a full disk is no reason to stop."""
        beside = self.folder / "modules.json.part"
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps({"python": sys.version, "modules": names}), "utf-8")
            beside.replace(self.folder / "modules.json")

    def write_list(self, names: list[str]) -> Path:
        """Write names for a parent to import, and return the file."""
        file = self.folder / "run" / "preload"
        file.write_text("\n".join(names), "utf-8")
        return file

    def report_file(self, number: int) -> Path:
        """Return where a worker writes what it imported."""
        return self.folder / "run" / f"{number}.report"

    @property
    def kept_report(self) -> Path:
        """Where a parent writes the hashes of the texts of what is kept."""
        return self.folder / "run" / "kept.report"

    def write_pins(self, number: int, code: dict[str, str]) -> Path:
        """Write which code a generation runs, and return the file."""
        file = self.folder / "run" / f"{number}.pins"
        file.write_text(json.dumps(code), "utf-8")
        return file

    def add_call(self, file: Path) -> None:
        """Remember a call of something kept that a worker had to make: the latest arguments for each name."""
        call = self._read_call(file)
        if call is None:
            return
        self._calls[call[0]] = call
        with contextlib.suppress(OSError):
            file.replace(self.folder / "calls" / f"{call[0].replace(':', '.')}.call")

    def _read_call(self, file: Path) -> Call | None:
        try:
            call: Call = pickle.loads(file.read_bytes())  # noqa: S301 - a worker's, of the same user
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return call

    def write_calls(self) -> Path:
        """Write the calls for a parent to make, and return the file."""
        file = self.folder / "run" / "calls"
        file.write_bytes(pickle.dumps(list(self._calls.values())))
        return file

    def _remove_old_code(self) -> None:
        oldest = time.time() - CODE_DAYS * 86_400
        with contextlib.suppress(OSError), os.scandir(self.folder / "code") as entries:
            for entry in entries:
                if entry.stat().st_mtime < oldest:
                    Path(entry.path).unlink(missing_ok=True)
