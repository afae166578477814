"""A model as a metric sees it: its folder, and for ONNX a function from inputs to outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.optimiser.host import count_threads
from buildkit.optimiser.scripts import RefusedRequest

MOST_KEPT = 64  # inputs
MOST_BYTES = 64 << 20  # of all that are kept

Feeds = Mapping[str, Any]


def pick_onnx(folder: Path, name: str = "") -> Path:
    """Return the ONNX file of a model: the one that ``name`` says, or the only one. Raises RefusedRequest."""
    return pick_file(folder, (".onnx",), name)


def pick_file(folder: Path, suffixes: tuple[str, ...], name: str = "") -> Path:
    """Return the file of a model with one of ``suffixes``: the one that ``name`` says, or the only one."""
    if name:
        return folder / name
    found = sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file())
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(path.relative_to(folder)) for path in found[:5])
    what = f"has several ({listed}): name one by `file`" if found else "has none"
    raise RefusedRequest("tool", f"it takes a file {' or '.join(suffixes)}, and the model {what}")


def open_session(path: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Load a model as a service does: all optimisations, and as many threads as the cgroup has processors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class RunningModel:
    """What a metric is given: ``folder`` holds the model's files, and a call runs its ONNX file.

    A call takes inputs by name, as arrays, and returns the list of outputs. The first inputs are kept: latency is
    measured, and static quantisation calibrated, with the very inputs that the metric feeds.
    """

    def __init__(self, folder: Path, file: str = "") -> None:
        self.folder = folder
        self.kept: list[Feeds] = []
        self._file = file
        self._session: Any = None
        self._bytes = 0

    @property
    def session(self) -> Any:  # noqa: ANN401
        """The session of onnxruntime, which is loaded at its first use."""
        if self._session is None:
            self._session = open_session(pick_onnx(self.folder, self._file))
        return self._session

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return pick_onnx(self.folder, self._file)

    @property
    def was_run(self) -> bool:
        """Whether it was called."""
        return bool(self.kept)

    def __call__(self, feeds: Feeds) -> list[Any]:
        """Return the outputs for inputs by name."""
        outputs: list[Any] = self.session.run(None, dict(feeds))
        size = sum(getattr(array, "nbytes", 0) for array in feeds.values())
        if len(self.kept) < MOST_KEPT and (not self.kept or self._bytes + size <= MOST_BYTES):
            self.kept.append(
                {name: getattr(array, "copy", lambda array=array: array)() for name, array in feeds.items()}
            )
            self._bytes += size
        return outputs

    def time_load(self) -> float:
        """Return the seconds that loading takes now."""
        began = time.perf_counter()
        open_session(self.path)
        return time.perf_counter() - began
