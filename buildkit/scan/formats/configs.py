"""JSON settings that make a loader import or call something: transformers, Hydra, skops, LangChain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import is_dangerous, word_set

REMOTE_CODE = Rule(
    id="transformers-remote-code",
    title="A configuration that comes with code",
    severity=Severity.MEDIUM,
    why="`auto_map` names Python files next to the model, or in another repository, that loaders import with "
    "`trust_remote_code`; some import them without asking.",
    advice="Read the named files, pin their revision, or use a model that the library supports itself.",
    references=("CVE-2025-66448", "https://huggingface.co/docs/transformers/custom_models"),
)
TRUST = Rule(
    id="transformers-trust-switch",
    title="A configuration that turns on trust in remote code",
    severity=Severity.HIGH,
    why="A loader that takes the setting from the file runs the model's code without asking.",
    advice="Remove the setting; decide about foreign code where the model is loaded.",
    references=("CVE-2025-66448",),
)
TARGET = Rule(
    id="hydra-target",
    title="A configuration that names what to call",
    severity=Severity.LOW,
    why="`_target_` is imported and called with arguments from the same file by Hydra, NeMo and their users.",
    advice="Check what is called; load only configurations whose targets you know.",
    references=("CVE-2025-23304",),
)
SKOPS = Rule(
    id="skops-type",
    title="A skops file with types beyond the trusted ones",
    severity=Severity.MEDIUM,
    why="Types beyond scikit-learn's and NumPy's are imported, and functions called, once they are trusted.",
    advice="Check `skops.io.get_untrusted_types`, and load the file only if you know all of them.",
    references=("CVE-2025-54412", "CVE-2025-54413", "CVE-2025-54886"),
)
_KNOWN = re.compile(
    r"(nemo|nemo_toolkit|torch|torchvision|torchaudio|torchmetrics|pytorch_lightning|lightning|omegaconf|transformers"
    r"|diffusers|megatron|hydra|timm|datasets)\..+"
)
_SKOPS = re.compile(
    r"(sklearn|numpy|scipy|collections|builtins|datetime|quantile_forest|lightgbm|xgboost|catboost)(\..+)?"
)
_SKOPS_NAMES = word_set(
    "int float bool str bytes bytearray list tuple dict set frozenset slice complex type NoneType range object"
)


def check_object(context: ScanContext, node: Mapping[str, object]) -> None:
    """Check one JSON object."""
    if "auto_map" in node:
        _check_auto_map(context, node["auto_map"])
    if node.get("trust_remote_code") in (True, "true", "True", 1):
        context.find(TRUST, "trust_remote_code is set to true")
    target = node.get("_target_")
    if isinstance(target, str):
        check_target(context, target)
    if "__module__" in node and "__class__" in node and "__loader__" in node:
        _check_skops(context, str(node["__module__"]), str(node["__class__"]), str(node["__loader__"]))


def find_templates(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the chat templates of an object: one text, or several with names."""
    if "chat_template" in node:
        yield from _texts(node["chat_template"])


def _texts(value: object) -> Iterator[str]:
    todo = [value]
    while todo:
        current = todo.pop()
        if isinstance(current, str):
            yield current
        elif isinstance(current, Mapping):
            todo.extend(current.values())
        elif isinstance(current, list):
            todo.extend(current)


def _check_auto_map(context: ScanContext, value: object) -> None:
    names = list(dict.fromkeys(_texts(value)))
    if not names:
        return
    listed = ", ".join(quote(name) for name in names[:4])
    if any("--" in name for name in names):
        context.find(REMOTE_CODE, f"auto_map names code of another repository: {listed}", severity=Severity.HIGH)
    else:
        context.find(REMOTE_CODE, f"auto_map names code: {listed}")


def check_target(context: ScanContext, target: str) -> None:
    """Check the dotted name that a configuration calls."""
    module, _, name = target.rpartition(".")
    if is_dangerous(module or target, name):
        context.find(TARGET, f"it calls {quote(target)}", severity=Severity.CRITICAL)
    elif not _KNOWN.fullmatch(target):
        context.find(TARGET, f"it calls {quote(target)}")


def _check_skops(context: ScanContext, module: str, name: str, loader: str) -> None:
    whole = quote(f"{module}.{name}")
    known = _SKOPS.fullmatch(module) and (module != "builtins" or name in _SKOPS_NAMES)
    if loader in ("OperatorFuncNode", "MethodNode") or (loader == "ReduceNode" and not known):
        context.find(SKOPS, f"{whole} is called by {quote(loader)}", severity=Severity.HIGH)
    elif not known:
        context.find(SKOPS, f"{whole} is imported", severity=Severity.CRITICAL if is_dangerous(module, name) else None)
