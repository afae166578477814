"""Settings that bring code with them, or lead to other files: transformers, MLflow, skops, LangChain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote, quote_value
from buildkit.scan.formats.danger import is_dangerous, word_set
from buildkit.scan.formats.paths import find_escape
from buildkit.scan.limits import LimitError

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
SKOPS = Rule(
    id="skops-type",
    title="A skops file with types beyond the trusted ones",
    severity=Severity.MEDIUM,
    why="Types beyond scikit-learn's and NumPy's are imported, and functions called, once they are trusted.",
    advice="Check `skops.io.get_untrusted_types`, and load the file only if you know all of them.",
    references=("CVE-2025-54412", "CVE-2025-54413", "CVE-2025-54886"),
)
PATH = Rule(
    id="config-path-escapes",
    title="A configuration that names files outside of the model",
    severity=Severity.HIGH,
    why="A loader that follows the path reads, downloads or overwrites a file elsewhere.",
    advice="Get the model from its author again.",
    references=("CWE-22",),
)
SECRET = Rule(
    id="langchain-object",
    title="A serialized object of LangChain",
    severity=Severity.MEDIUM,
    why="LangChain creates what it names, and puts secrets from the environment into it.",
    advice="Load it only if you know every object in it.",
    references=("CVE-2025-68664",),
)
_NO = frozenset({"", "false", "none", "null", "~", "0", "no", "off", "n"})
_MOST_TEXTS = 400_000  # the largest models have a hundred thousand tensors
_CODE_KEYS = {
    "custom_generate": "the code of a generation loop",
    "custom_pipelines": "the code of pipelines",
    "model_code_path": "a script that MLflow runs",
    "custom_ops_library": "a native library",
}
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
    if "trust_remote_code" in node and quote_value(node["trust_remote_code"]).strip("'").lower() not in _NO:
        context.find(TRUST, f"trust_remote_code is {quote_value(node['trust_remote_code'])}")
    _check_code(context, node)
    _check_files(context, node)
    if "__module__" in node and "__class__" in node and "__loader__" in node:
        _check_skops(context, str(node["__module__"]), str(node["__class__"]), str(node["__loader__"]))


def _check_code(context: ScanContext, node: Mapping[str, object]) -> None:
    """Check settings that name files or repositories with code."""
    for key in sorted(_CODE_KEYS.keys() & node.keys()):
        if node[key]:
            context.find(
                REMOTE_CODE, f"{key} names {_CODE_KEYS[key]}: {quote_value(node[key])}", severity=Severity.HIGH
            )
    if "loader_module" in node and node.get("code"):
        context.find(REMOTE_CODE, f"MLflow imports code from {quote_value(node['code'])}", severity=Severity.HIGH)
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if any("/" in text for text in _texts(node.get(key))):
            context.find(REMOTE_CODE, f"{key} names a repository of native code", severity=Severity.HIGH)
    if node.get("lc"):
        names = list(_texts(node.get("id")))
        if node.get("type") == "secret" or not names or not names[-1].startswith("langchain"):
            context.find(SECRET, f"{quote_value(node.get('type'))}: {quote('.'.join(names[::-1]))}")


def _check_files(context: ScanContext, node: Mapping[str, object]) -> None:
    """Check the files that hold the parts of a model's weights."""
    names = node.get("weight_map"), [node.get("paths")] if "weights" in node else None
    for name in dict.fromkeys(text for listed in names for text in _texts(listed)):
        if why := find_escape(name):
            context.find(PATH, f"{quote(name)} {why}")
            return


def find_templates(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the chat templates of an object: one text, or several with names."""
    if "chat_template" in node:
        yield from _texts(node["chat_template"])


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value; raises LimitError if it holds too much."""
    todo, left = [value], _MOST_TEXTS
    while todo:
        current, left = todo.pop(), left - 1
        if left < 0:
            raise LimitError(f"a setting with more than {_MOST_TEXTS} values")
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


def _check_skops(context: ScanContext, module: str, name: str, loader: str) -> None:
    whole = quote(f"{module}.{name}")
    known = _SKOPS.fullmatch(module) and (module != "builtins" or name in _SKOPS_NAMES)
    if loader in ("OperatorFuncNode", "MethodNode") or (loader == "ReduceNode" and not known):
        context.find(SKOPS, f"{whole} is called by {quote(loader)}", severity=Severity.HIGH)
    elif not known:
        context.find(SKOPS, f"{whole} is imported", severity=Severity.CRITICAL if is_dangerous(module, name) else None)
