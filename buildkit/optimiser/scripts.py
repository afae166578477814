"""Functions of the user's scripts, written ``PATH.py:FUNCTION``, and what is said when one fails."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPTS = Path("/mnt/scripts")


class RefusedRequest(Exception):
    """Something that the user must mend; ``kind`` is ``tool``, ``script`` or ``metric``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def load_function(place: str, folder: Path) -> Callable[..., Any]:
    """Return the function that ``place`` names, of a script below ``folder``. Raises RefusedRequest."""
    path, _, name = place.partition(":")
    spec = importlib.util.spec_from_file_location("_" + "".join(c if c.isalnum() else "_" for c in path), folder / path)
    if spec is None or spec.loader is None:
        raise RefusedRequest("script", f"{path} is not a Python script")
    module, run = importlib.util.module_from_spec(spec), spec.loader.exec_module
    call(place, folder, lambda: run(module))
    function = getattr(module, name, None)
    if not callable(function):
        raise RefusedRequest("script", f"{path} has no function `{name}`")
    return function  # type: ignore[no-any-return]


def call(place: str, folder: Path, action: Callable[[], Any]) -> Any:  # noqa: ANN401 - a script returns anything
    """Return what ``action`` returns; what the user's script raises becomes a RefusedRequest with the script's line."""
    try:
        return action()
    except RefusedRequest:
        raise
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(folder))]
        where = f"{Path(frames[-1].filename).relative_to(folder)}:{frames[-1].lineno}" if frames else place
        raise RefusedRequest("script", f"{where}: {type(error).__name__}: {error}") from error
