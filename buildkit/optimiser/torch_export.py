"""PyTorch to ONNX, by the exporter of PyTorch, without what the file would say of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.optimiser.onnx_tools import naming_tool
from buildkit.optimiser.scripts import SCRIPTS, RefusedRequest, call, load_function


def export_module(source: Path, target: Path, options: Mapping[str, Any], scripts: Path = SCRIPTS) -> None:
    """Export what the function ``export`` of the options returns for the folder of the source.

    That is a module and its example arguments, or these and further keywords of ``torch.onnx.export``.
    """
    import torch

    torch.manual_seed(0)
    place = options["export"]
    function = load_function(place, scripts)
    made = call(place, scripts, lambda: function(source))
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[0], torch.nn.Module):
        raise RefusedRequest("script", f"{place} must return (module, arguments) or (module, arguments, keywords)")
    keywords = dict(made[2]) if len(made) == 3 else {}
    if "opset" in options:
        keywords["opset_version"] = options["opset"]
    with naming_tool(f"torch {torch.__version__}", target), torch.no_grad():
        program = torch.onnx.export(made[0].eval(), tuple(made[1]), dynamo=True, verbose=False, **keywords)
        program.save(str(target))
        strip_file(target)


def strip_file(path: Path) -> None:
    """Remove paths of sources, stack traces and notes from an ONNX file: they are of the machine that made it."""
    import onnx

    model = onnx.load(str(path))
    strip_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip_model(model: Any) -> None:  # noqa: ANN401 - onnx has no types
    """Clear ``metadata_props`` and ``doc_string`` wherever a message has them."""
    pending = [model]
    while pending:
        message = pending.pop()
        for name in ("metadata_props", "doc_string"):
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)
        for field, value in message.ListFields():
            if field.message_type is None or field.name == "raw_data":
                continue
            pending += value if hasattr(value, "add") else [value]
