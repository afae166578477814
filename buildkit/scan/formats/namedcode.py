"""Settings that name Python code by a dotted name, and serialized Python objects in JSON.

Hydra and its relatives, diffusers, sentence-transformers, PEFT, MLflow, Monty and jsonpickle import what they name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeGuard

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote, quote_value
from buildkit.scan.formats.danger import is_dangerous, word_set

TARGET = Rule(
    id="hydra-target",
    title="A configuration that names what to call",
    severity=Severity.LOW,
    why="`_target_` and its relatives are imported and called with arguments from the same file by Hydra, NeMo, "
    "Lightning and their users.",
    advice="Check what is called; load only configurations whose targets you know.",
    references=("CVE-2025-23304",),
)
IMPORTED = Rule(
    id="config-imports",
    title="A configuration that names code of another package",
    severity=Severity.MEDIUM,
    why="diffusers, sentence-transformers, PEFT, MLflow and others import the module that it names.",
    advice="Read that code, and load the model only if you know the package and want it.",
)
JSONPICKLE = Rule(
    id="jsonpickle",
    title="JSON that holds Python objects",
    severity=Severity.HIGH,
    why="jsonpickle imports the classes that keys such as `py/object` name, and calls what `py/reduce` names.",
    advice="Do not decode it with jsonpickle; ask for the values as plain JSON.",
    references=("https://jsonpickle.readthedocs.io/en/latest/#warning",),
)
_FRAMEWORKS = (
    "nemo|nemo_toolkit|torch|torchvision|torchaudio|torchmetrics|pytorch_lightning|lightning|transformers|diffusers"
    "|megatron|timm|datasets|speechbrain|ldm|sgm|cldm|taming"
)
_KNOWN = re.compile(rf"(?:{_FRAMEWORKS})(?:\.\w+)+")
_PIPELINES = re.compile(
    r"(?:stable|latent|alt|versatile)_?\w*diffusion\w*|deepfloyd_if|kandinsky\w*|paint_by_example|audioldm\w*|musicldm"
    r"|shap_e|unclip|unidiffuser|wuerstchen|flux|pixart_\w+|blip_diffusion|semantic_stable_diffusion|kolors|hunyuan\w*"
)
_IMPORTS: Mapping[str, re.Pattern[str]] = {  # keys whose dotted value is imported, and what is ordinary there
    "parent_library": re.compile(r"(?:transformers|diffusers|torch|peft|timm|sentence_transformers)(?:\.\w+)*"),
    "megatron_core": re.compile(r"megatron\.core"),
    "loader_module": re.compile(r"mlflow(?:\.\w+)*"),
    "activation_function": re.compile(r"torch\.nn\.\w+(?:\.\w+)*"),
    "activation_fn": re.compile(r"torch\.nn\.\w+(?:\.\w+)*"),
    "default_activation_function": re.compile(r"torch\.nn\.\w+(?:\.\w+)*"),
    "sbert_ce_default_activation_function": re.compile(r"torch\.nn\.\w+(?:\.\w+)*"),
    "tokenizer_class": re.compile(r"transformers(?:\.\w+)+"),
    "processor_class": re.compile(r"transformers(?:\.\w+)+"),
}
_DOTLESS = frozenset({"parent_library", "megatron_core", "loader_module"})  # also a name without dots is a module
_COMPONENTS = word_set(
    "unet vae text_encoder text_encoder_2 text_encoder_3 tokenizer tokenizer_2 tokenizer_3 scheduler transformer prior "
    "safety_checker feature_extractor image_encoder image_processor vae_encoder vae_decoder decoder controlnet vocoder"
)
_CALLS = re.compile(
    r"(?:os|posix|nt|subprocess|commands|builtins|__builtin__|runpy|pty|importlib|ctypes|pickle|_pickle|marshal|dill"
    r"|cloudpickle|joblib|shutil|code|torch\.(?:os|hub|serialization))\.(?:\w+\.)*(?:system|popen\w*|exec\w*|spawn\w*|Popen"
    r"|run\w*|call|check_output|check_call|getoutput|getstatusoutput|eval|compile|__import__|import_module|loads?|CDLL"
    r"|rmtree|interact|open)"
)
_INNER = word_set(
    "os posix nt sys subprocess builtins __builtins__ importlib runpy shutil socket ctypes pickle marshal pty tempfile "
    "pathlib urllib requests multiprocessing cpp_extension hub"
)
_LIBRARIES = ("diffusers", "transformers")
_DATA = frozenset({"py/tuple", "py/set", "py/b64", "py/b85", "py/id", "py/ref", "py/iterator", "py/seq"})


def check_object(context: ScanContext, node: Mapping[str, object]) -> None:
    """Check one object for keys by which a loader imports or calls something."""
    _check_targets(context, node)
    for key in sorted(_IMPORTS.keys() & node.keys()):
        value = node[key]
        if isinstance(value, str) and ("." in value or key in _DOTLESS) and not _is_ordinary(value, _IMPORTS[key]):
            _find_import(context, value, f"{quote(key)} names")
    if "type" in node and "path" in node and isinstance(node["type"], str) and "." in node["type"]:
        _check_sentence(context, node["type"])
    if isinstance(types := node.get("types"), Mapping) and "structure" in node:
        for value in types.values():
            _check_sentence(context, str(value))
    if "_class_name" in node or "_diffusers_version" in node or _COMPONENTS & node.keys():
        _check_components(context, node)
    if "@module" in node and ("@class" in node or "@callable" in node):
        _find_import(context, f"{node['@module']}.{node.get('@class', node.get('@callable'))}", "`@module` names")
    if any(key.startswith("py/") for key in node):
        _check_jsonpickle(context, node)


def is_call(text: str) -> bool:
    """Return whether a text is nothing but the name of a function which runs something."""
    return len(text) < 100 and "." in text and bool(_CALLS.fullmatch(text))


def find_calls(context: ScanContext, texts: Iterable[str]) -> None:
    """Report texts that are names of functions which run something."""
    for text in texts:
        context.find(TARGET, f"it names {quote(text)}", severity=Severity.MEDIUM)


def check_target(context: ScanContext, target: str) -> None:
    """Check the dotted name that a configuration calls."""
    if _reaches(target):
        context.find(TARGET, f"it calls {quote(target)}", severity=Severity.CRITICAL)
    elif not _KNOWN.fullmatch(target):
        context.find(TARGET, f"it calls {quote(target)}")


def _reaches(dotted: str) -> bool:
    """Return whether a dotted name leads to something dangerous, also through a module that imports it."""
    module, _, name = dotted.replace(":", ".").rpartition(".")
    return is_dangerous(module or dotted, name) or not _INNER.isdisjoint(module.split("."))


def _is_ordinary(value: str, ordinary: re.Pattern[str]) -> bool:
    return bool(ordinary.fullmatch(value)) and not _reaches(value)


def _check_targets(context: ScanContext, node: Mapping[str, object]) -> None:
    for key, partner in (("_target_", ""), ("target", "params"), ("class_path", "")):
        if key not in node or (partner and partner not in node):
            continue
        if isinstance(node[key], str):
            check_target(context, str(node[key]))
        elif key == "_target_":
            context.find(TARGET, f"it calls what is no name: {quote_value(node[key])}")


def _find_import(context: ScanContext, dotted: str, what: str) -> None:
    severity = Severity.CRITICAL if _reaches(dotted) or is_dangerous(dotted) else None
    context.find(IMPORTED, f"{what} {quote(dotted)}", severity=severity)


def _check_sentence(context: ScanContext, dotted: str) -> None:
    """Check the class of a module of sentence-transformers."""
    if not dotted.startswith("sentence_transformers.") or _reaches(dotted):
        _find_import(context, dotted, "a module has the type")


def _check_components(context: ScanContext, node: Mapping[str, object]) -> None:
    """Check the parts of a pipeline of diffusers: pairs of a package and a class."""
    pairs = {key: (value[0], value[1]) for key, value in node.items() if _is_pair(value)}
    is_index = str(node.get("_class_name")).endswith("Pipeline") or any(
        key in _COMPONENTS or package in _LIBRARIES for key, (package, _) in pairs.items()
    )
    for key, (package, name) in pairs.items():
        known = package.split(".")[0] in _LIBRARIES or _PIPELINES.fullmatch(package)
        if known and key != "_class_name" and not _reaches(f"{package}.{name}"):
            continue
        # the configuration of one part has lists of its blocks' names
        if (
            is_index
            or key == "_class_name"
            or (package.islower() and name[:1].isupper())
            or is_dangerous(package, name)
        ):
            _find_import(context, f"{package}.{name}", f"{quote(key)} is")


def _is_pair(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _check_jsonpickle(context: ScanContext, node: Mapping[str, object]) -> None:
    for key, value in node.items():
        if key.startswith("py/") and not isinstance(value, int):  # a number is the index of a word, or of an object
            severity = Severity.LOW if key in _DATA else None
            if isinstance(value, str) and _reaches(value):
                severity = Severity.CRITICAL
            context.find(JSONPICKLE, f"it has {quote(key)}: {quote_value(value)}", severity=severity)
