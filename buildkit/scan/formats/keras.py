"""Keras's descriptions of objects (`module`, `class_name`, `config`, `registered_name`), in `.keras` and in HDF5.

Source: keras/src/saving/serialization_lib.py (`deserialize_keras_object`) and the advisories named in the rules.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import is_dangerous

LAMBDA = Rule(
    id="keras-lambda",
    title="A Keras Lambda layer with code",
    severity=Severity.CRITICAL,
    why="Its bytecode is unmarshalled and runs when the model is loaded (from HDF5 even in safe mode) or called.",
    advice="Do not load the model; ask the author for one without Lambda layers.",
    references=("CVE-2024-3660", "CVE-2025-9905"),
)
MODULE = Rule(
    id="keras-module",
    title="A Keras object from a foreign module",
    severity=Severity.HIGH,
    why="Keras before 3.9 imports any module that a model names and calls what it finds there.",
    advice="Do not load the model; if the module is yours, register the class and save the model again.",
    references=("CVE-2025-1550",),
)
FUNCTION = Rule(
    id="keras-function",
    title="A Keras function that models do not need",
    severity=Severity.CRITICAL,
    why="Functions of Keras itself download files, load other models and turn the safe mode off.",
    advice="Do not load the model.",
    references=("CVE-2025-8747", "CVE-2025-9906"),
)
LAYER = Rule(
    id="keras-unsafe-layer",
    title="A Keras layer that loads something else",
    severity=Severity.HIGH,
    why="The layer unpickles a PyTorch module, or reads another saved model from a path, when the model is loaded.",
    advice="Do not load the model unless you created it yourself.",
    references=("CVE-2025-49655", "CVE-2026-1462"),
)
VOCABULARY = Rule(
    id="keras-file-reference",
    title="A Keras layer that reads a file by its path",
    severity=Severity.HIGH,
    why="The layer reads the path or address in its configuration, on the host that loads the model.",
    advice="Save the model with the vocabulary in it.",
    references=("CVE-2025-12058",),
)
CUSTOM = Rule(
    id="keras-custom-object",
    title="A Keras object that needs your code",
    severity=Severity.NOTE,
    why="The class is not part of Keras: loading the model needs code, often code that came with it.",
    advice="Read that code, and register the class yourself.",
)
UNSAFE_MODE = Rule(
    id="keras-unsafe-mode",
    title="A Keras description that turns the safe mode off",
    severity=Severity.CRITICAL,
    why="With the safe mode off, bytecode in the model runs when it is loaded.",
    advice="Do not load the model.",
    references=("CVE-2025-9906",),
)

_PARTS = (
    "activations|callbacks|constraints|distillation|dtype_policies|engine|initializers|layers|losses|metrics"
    r"|backend\.(?:torch|jax|tensorflow)\.optimizers|mixed_precision|models|optimizers|ops|quantizers|random|regularizers|trainers"
)
_KERAS_MODULES = re.compile(
    rf"(?:(?:tensorflow\.(?:python\.)?)?keras|tf_keras)(?:\.src)?(?:\.api)?(?:\._tf_keras\.keras)?(?:\.(?:{_PARTS})(?:\..*)?)?"
)
_FAMILY = re.compile(
    r"(?:keras_hub|keras_nlp|keras_cv|keras_tuner|keras_rs|tensorflow_hub|tensorflow_addons|tfm?_[a-z_]+)(?:\..*)?"
)
_SPECIAL = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__"}
)
_LOADERS = re.compile(
    r"get_file|load_\w+|save_\w+|\w*_from_json|\w*deserialize\w*|(?:de)?register_\w+|\w+_from_directory|custom_object_scope"
    r"|CustomObjectScope|clear_session|extract_archive|download\w*|\w*unsafe\w*|import_\w+|exec\w*|eval|open|TFRecord\w*"
)
_IDENTIFIER = re.compile(r"(?:[\w -]+>)*\w+")
_HARMLESS = frozenset(
    {"abs", "all", "any", "bool", "bytes", "complex", "dict", "float", "frozenset", "int", "len", "list", "max", "min"}
    | {"object", "pow", "range", "round", "set", "slice", "str", "sum", "tuple"}
)
_PYTHON = frozenset(dir(builtins)) - _HARMLESS
_FILES = ("vocabulary", "idf_weights", "vocabulary_file", "vocabulary_path", "filepath", "proto", "merges")
_UNPICKLES = {"TorchModuleWrapper", "TorchModule"}
_EXTERNAL_LAYERS = {"TFSMLayer", "FlaxLayer", "JaxLayer"}


def check_object(context: ScanContext, node: Mapping[str, object]) -> None:
    """Check one JSON object: is it a Keras object, and would loading it do more than create a layer?"""
    if "lambda" in _kinds(node) or node.get("function_type") == "function":
        _check_legacy_lambda(context, node)
    if node.get("safe_mode") is False or "enable_unsafe_deserialization" in node.values():
        context.find(UNSAFE_MODE, "an object sets safe_mode to false, or names enable_unsafe_deserialization")
    name = node.get("class_name")
    if not isinstance(name, str) or not ("config" in node or "module" in node or "registered_name" in node):
        return
    config, module = node.get("config"), node.get("module")
    if name == "__lambda__":
        context.find(LAMBDA, "a function is given as bytecode (`__lambda__`)")
    elif name == "__typespec__":
        _check_module(context, module, str(node.get("spec_name")), typespec=True)
    elif name not in _SPECIAL:
        function = name == "function" and isinstance(config, str)
        _check_name(context, node, module, config if function else name, function=function)
        if isinstance(config, Mapping):
            _check_layer(context, _last_part(name), config)


def _kinds(node: Mapping[str, object]) -> list[object]:
    return [node.get(key) for key in ("function_type", "output_shape_type", "mask_type")]


def _check_legacy_lambda(context: ScanContext, node: Mapping[str, object]) -> None:
    if "lambda" in _kinds(node):
        context.find(LAMBDA, f"a Lambda layer {quote(str(node.get('name')))} holds bytecode")
        return
    module = node.get("module")
    if isinstance(module, str) and is_dangerous(module, str(node.get("function"))):
        whole = quote(f"{module}.{node.get('function')}")
        context.find(MODULE, f"a Lambda layer calls {whole}", severity=Severity.CRITICAL)


def _check_name(
    context: ScanContext, node: Mapping[str, object], module: object, name: object, *, function: bool
) -> None:
    text = str(name)
    registered = str(node.get("registered_name") or "")
    if (
        isinstance(module, str) and module != "builtins"
    ):  # `keras` with `utils.get_file` is `keras.utils` with `get_file`
        module, _, text = f"{module}.{text}".rpartition(".")
    if _LOADERS.fullmatch(_last_part(text)) or _LOADERS.fullmatch(_last_part(registered)):
        context.find(FUNCTION, f"it names {quote(f'{module}.{text}')}")
    elif module is None or module == "builtins":
        _check_builtin(context, text, registered, unqualified=module is None and "module" not in node)
        if ">" in registered or (function and registered not in ("", "function", text)):
            context.find(CUSTOM, f"{quote(registered)} is a custom registered object")
        elif module is None and "module" in node:
            context.find(CUSTOM, f"{quote(text)} has no module")
    else:
        _check_module(context, module, text)
        if function and not re.search(
            r"\.(activations|losses|metrics|ops|initializers|regularizers|constraints)\b", str(module)
        ):
            context.find(
                FUNCTION,
                f"{quote(f'{module}.{text}')} is a function from a module without layer functions",
                severity=Severity.HIGH,
            )


def _check_builtin(context: ScanContext, name: str, registered: str, *, unqualified: bool) -> None:
    """Check a name without a module: Keras finds its own there, but also any of Python's or of another module.

    In old descriptions, which are ``unqualified``, a class of another framework may have a name with dots.
    """
    foreign = any(_last_part(text) in _PYTHON or is_dangerous(*_split(text)) for text in (name, registered))
    if foreign or not (unqualified or _IDENTIFIER.fullmatch(name)):
        context.find(FUNCTION, f"it names {quote(name)}, registered as {quote(registered)}")


def _split(dotted: str) -> tuple[str, str]:
    module, _, name = dotted.rpartition(".")
    return module, name


def _last_part(name: str) -> str:
    return re.split(r"[.>]", name)[-1]


def _check_module(context: ScanContext, module: object, name: str, *, typespec: bool = False) -> None:
    if not isinstance(module, str):
        if module is not None:
            context.find(MODULE, f"a module that is not text: {quote(str(module))}")
        return
    whole = quote(f"{module}.{name}")
    if _KERAS_MODULES.fullmatch(module) or (typespec and module.startswith("tensorflow.") and name.endswith("Spec")):
        return
    if is_dangerous(module, name):
        context.find(MODULE, f"it names {whole}", severity=Severity.CRITICAL)
    elif _FAMILY.fullmatch(module):
        context.find(CUSTOM, f"{whole} belongs to a package that must be installed")
    else:
        context.find(MODULE, f"it names {whole}")


def _check_layer(context: ScanContext, name: str, config: Mapping[str, object]) -> None:
    if name == "Lambda":
        function = config.get("function")
        inner = function.get("class_name") if isinstance(function, Mapping) else None
        if inner not in ("function", None) or isinstance(function, list):
            context.find(LAMBDA, f"a Lambda layer {quote(str(config.get('name')))} holds bytecode")
        else:
            context.find(
                LAMBDA,
                f"a Lambda layer {quote(str(config.get('name')))} calls a named function",
                severity=Severity.HIGH,
            )
    elif name in _UNPICKLES:
        context.find(LAYER, f"a layer {quote(name)} unpickles a PyTorch module", severity=Severity.CRITICAL)
    elif name in _EXTERNAL_LAYERS:
        context.find(LAYER, f"a layer {quote(name)} loads its code from another place")
    for key in _FILES:
        value = config.get(key)
        if isinstance(value, str) and value and name not in _EXTERNAL_LAYERS:
            context.find(VOCABULARY, f"{quote(name)} reads its {key} from {quote(value)}")
