"""Answers the host's requests: a line of JSON each, over two pipes. Errors that the user must mend are answers, too.

``derive`` makes files of a model from another; ``measure`` compares models; ``read`` is answered by a line and then the
bytes of a file; ``about`` says what this is. What scripts print goes to standard output, not into the pipes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

from buildkit.optimiser import onnx_tools, torch_export, torch_file
from buildkit.optimiser.host import count_threads, describe_processor
from buildkit.optimiser.measuring import judge_model, time_models
from buildkit.optimiser.onnx_runtime import RunningModel, pick_file, pick_onnx
from buildkit.optimiser.scripts import SCRIPTS, RefusedRequest, call, load_function

Request = Mapping[str, Any]
_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_SECONDS = 60
_LIBRARIES = ("onnxruntime", "onnx", "torch", "numpy")


def main(pipes: list[str]) -> None:
    """Answer until the requests end; the pipe for answers is opened first.

    If the host was killed, nobody opens the other ends: the alarm ends this process then.
    """
    signal.alarm(_SECONDS)
    with open(pipes[0], "wb") as answers, open(pipes[1], "rb") as requests:  # noqa: PTH123
        signal.alarm(0)
        serve(requests, answers)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each line of ``requests``."""
    actions: dict[str, Callable[[Request], dict[str, Any]]] = {"derive": derive, "measure": measure, "about": about}
    for line in requests:
        request = json.loads(line)
        if request["do"] == "read":
            _send_file(Path(request["path"]), answers)
            continue
        try:
            answer = actions[request["do"]](request)
        except RefusedRequest as refusal:
            answer = {"error": refusal.message, "kind": refusal.kind}
        _send(answers, answer)


def about(_request: Request) -> dict[str, Any]:
    """Say the processor, the threads that models get, and the versions of libraries."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"processor": describe_processor(), "threads": count_threads(), "versions": versions}


def derive(request: Request) -> dict[str, Any]:
    """Make the files of a model in the new folder ``into``; say their paths, sizes and hashes, and the ranges used."""
    into, scripts = Path(request["into"]), Path(request.get("scripts", SCRIPTS))
    source = _copy_source(Path(request["source"]), into.parent / f"{into.name}-source")
    tool, options = request["tool"], request["options"]
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    ranges = _ranges(request, source, scripts) if tool == "onnx-quantise-static" else {}
    if ".py:" in tool:
        function = load_function(tool, scripts)
        call(tool, scripts, lambda: function(source, into, options))
    elif tool == "torch-to-onnx":
        torch_export.export_module(source, into / options.get("output", "model.onnx"), options, scripts)
    elif tool == "to-safetensors":
        found = pick_file(source, _TORCH, options.get("file", ""))
        torch_file.convert(found, _beside(found, source, into).with_suffix(".safetensors"), options)
    else:
        _run_onnx(tool, source, into, options, ranges)
    files = sorted(path for path in into.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise RefusedRequest("tool", f"{tool} made no file")
    listed = [_describe_file(path, into) for path in files]
    return {"files": listed, "ranges": {name: list(pair) for name, pair in ranges.items()}}


def _copy_source(source: Path, copy: Path) -> Path:
    """Copy the source to a folder that can be written to: onnxruntime puts files of its own beside a model."""
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(source, copy))


def _describe_file(path: Path, folder: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": str(path.relative_to(folder)), "size": path.stat().st_size, "sha256": sha256}


def _run_onnx(tool: str, source: Path, into: Path, options: Mapping[str, Any], ranges: onnx_tools.Ranges) -> None:
    found = pick_onnx(source, options.get("file", ""))
    target = _beside(found, source, into)
    with onnx_tools.naming_tool(_name_tool(), found):
        if tool == "onnx-optimise":
            onnx_tools.optimise(found, target, options)
        elif tool == "onnx-quantise-dynamic":
            onnx_tools.quantise_dynamic(found, target, options)
        else:
            onnx_tools.quantise_static(found, target, options, ranges)


def _ranges(request: Request, source: Path, scripts: Path) -> onnx_tools.Ranges:
    """Return the ranges of the lock, or those of a run of the metric over the data for calibration."""
    if request.get("ranges"):
        return {name: (low, high) for name, (low, high) in request["ranges"].items()}
    options = request["options"]
    model = RunningModel(source, options.get("file", ""))
    judge_model(model, request["metric"], Path(request["data"]), scripts)
    if not model.was_run:
        raise RefusedRequest(
            "metric", f"{request['metric']} never calls the model, so there are no inputs to calibrate with"
        )
    found = pick_onnx(source, options.get("file", ""))
    with onnx_tools.naming_tool(_name_tool(), found):
        return onnx_tools.calibrate(found, options, model.kept[: options.get("samples", 64)])


def _beside(found: Path, source: Path, into: Path) -> Path:
    target = into / found.relative_to(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _name_tool() -> str:
    return f"onnxruntime {version('onnxruntime')}"


def measure(request: Request) -> dict[str, Any]:
    """Compare ``models``, folders by name: their metric over ``data``, if there is one, times and operators.

    A metric that fails is the ``error`` of its model, which is not timed then.
    """
    models = {name: RunningModel(Path(folder), request.get("file", "")) for name, folder in request["models"].items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in models}
    for name, model in models.items():
        if request.get("metric"):
            found[name] = _judge(model, request)
    models = {name: model for name, model in models.items() if "error" not in found[name]}
    if all(any(model.folder.rglob("*.onnx")) for model in models.values()):
        for name, times in time_models(models, request.get("seconds", 3.0)).items():
            found[name] |= times
        for name, model in models.items():
            found[name]["operators"] = onnx_tools.count_operators(model.path)
            found[name]["quantised"] = onnx_tools.count_quantised(model.path)
    return {"models": found}


def _judge(model: RunningModel, request: Request) -> dict[str, Any]:
    scripts = Path(request.get("scripts", SCRIPTS))
    try:
        return {"metric": judge_model(model, request["metric"], Path(request["data"]), scripts)}
    except RefusedRequest as refusal:
        return {"error": refusal.message}


def _send_file(path: Path, answers: BinaryIO) -> None:
    _send(answers, {"size": path.stat().st_size})
    with path.open("rb") as file:
        shutil.copyfileobj(file, answers, 1 << 20)
    answers.flush()


def _send(answers: BinaryIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
