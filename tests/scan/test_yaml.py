"""YAML and TOML: PyYAML, with a recorder in place of its imports, shows what a text would call."""

from __future__ import annotations

import io
import math
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.findings import Severity
from buildkit.scan import Verdict
from buildkit.scan.formats.structures import walk
from tests.scan.formatmaker import rules, scan_bytes, worst


class Recorder(yaml.UnsafeLoader):
    """Notes what a text imports, and calls a harmless function instead."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.found: list[str] = []

    def find_python_name(self, name: str, mark: object, unsafe: bool = False) -> Any:
        self.found.append(name)
        return math.sqrt

    def find_python_module(self, name: str, mark: object, unsafe: bool = False) -> Any:
        self.found.append(name)
        return math


def imported(text: str) -> list[str]:
    loader = None
    with suppress(yaml.YAMLError, TypeError, ValueError, AttributeError, RecursionError, KeyError):
        loader = Recorder(text)
        while loader.check_data():
            loader.get_data()
    return loader.found if loader else []


def targets(value: object) -> set[object]:
    return {node["_target_"] for node in walk(value, shared=True) if isinstance(node, dict) and "_target_" in node}


def carriers(text: str) -> Iterator[bytes]:
    yield text.encode()
    yield text.encode("utf-16")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("model_config.yaml")
        member.size = len(text.encode())
        archive.addfile(member, io.BytesIO(text.encode()))
    yield file.getvalue()


CALLS = [
    '!!pyth%6Fn/object/apply:os.system ["id"]',
    "%TAG !x! tag:yaml.org,2002:python/\n---\na: !x!object/new:os.system [id]\n",
    "%TAG ! tag:yaml.org,2002:python/\n---\na: !object/new:os.system [id]\n",
    "%TAG !! tag:yaml.org,2002:py\n---\na: !!thon/name:os.system\n",
    "%TAG !e! tag:yaml.org,2002:python/object\n---\n!e!/apply:os.system [id]",
    "!<tag:yaml.org,2002:python/object/apply:os.system> [id]",
    "!<tag:yaml.org,2002:pyth%6Fn/object/apply:os.system> [id]",
    "[1, {a: [!!python/object/apply:os.system [id]]}]",
    "{a: 1, b: !!python/name:os.system }",
    '{"a": !!python/object/apply:os.system ["id"]}',
    '["a", !!python/object/apply:os.system ["id"]]',
    "? !!python/object/apply:os.system [id]\n: 1\n",
    "a:\n  - &x !!python/object/apply:os.system [id]\n  - *x\n",
    "&x !!python/module:os",
    "!!python/object/new:os.system\nargs: [id]\nstate: {}\n",
    "--- 1\n--- 2\n--- !!python/object/apply:os.system [id]\n... \nnot: [closed",
    "# comment\n\n\n!!python/object/apply:os.system\n- id\n",
    '"a": !!python/object/apply:os.system\n  [ "id" ]\n',
    "a: >\n  folded\nb: !!python/object/apply:os.system [id]\n",
    "- !!python/object:os.system {}\n",
]  # fmt: skip


@pytest.mark.parametrize("text", CALLS)
def test_tag_that_pyyaml_resolves_to_code_is_found(text: str) -> None:
    assert imported(text), "the text has to do what it is here for"
    for content in carriers(text):
        assert "yaml-python-tag" in rules(content)
        assert worst(content) is Severity.CRITICAL


TARGETS = [
    "model: {_target_: os.system}",
    '{"x": 1, _target_: os.system}',
    '"\\x5ftarget_": os.system',
    '"\\u005ftarget\\x5f": "os.syst\\x65m"',
    '? "_tar\\\n  get_"\n: os.system',
    "? _target_\n: os.system\n",
    "? '_target_'\n: 'os.system'\n",
    "? >-\n  _target_\n: >-\n  os.system\n",
    "'_target_' : |-\n  os.system\n",
    "a: &x os.system\nb: {_target_: *x}\n",
    "&k _target_: os.system\nb: {*k : os.system}\n",
    "a: &m {_target_: os.system}\nb: {<<: *m, x: 1}\n",
    "- - - _target_:\n        os.system\n",
    "!!str _target_: !!str os.system",
    "_target_: nemo.x\n---\n_target_: os.system\n",
    "_target_: torch.os.system\n",
    "_target_: os.system\n_target_: torch.nn.Linear\n",
    "%YAML 1.1\n---\n_target_: os.system",
]


@pytest.mark.parametrize("text", TARGETS)
def test_target_is_found_wherever_yaml_has_it(text: str) -> None:
    # of equal keys PyYAML takes the last, other parsers the first
    assert (
        any("os.system" in str(found) for found in targets(list(yaml.safe_load_all(text))))
        or text.count("_target_:") > 1
    )
    for content in carriers(text):
        assert ("hydra-target", Severity.CRITICAL) in {
            (one.rule.id, one.severity) for one in scan_bytes(content).findings
        }


@pytest.mark.parametrize(
    "text",
    [
        '_target_ = "os.system"\n',
        '[model]\n_target_ = "os.system"\n',
        'model = {_target_ = "os.system"}\n',
        '"\\u005ftarget_" = "os.system"\n',
        "model.'_target_' = 'os.system'\n",
        '[[a.b]]\nx = 1\n[a.b.c]\n_target_ = """os.system"""\n',
    ],
)
def test_target_is_found_wherever_toml_has_it(text: str) -> None:
    assert targets(tomllib.loads(text)) == {"os.system"}
    for content in carriers(text):
        assert worst(content) is Severity.CRITICAL


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: !new:os.system [id]", "hydra-target"),
        ("a: !apply:subprocess.run {args: id}", "hydra-target"),
        ("a: !name:my.Model", "hydra-target"),
        ("class_path: os.system\ninit_args: {command: id}", "hydra-target"),
        ("target: os.system\nparams: {command: id}", "hydra-target"),
        ("target: torch.hub.os.system\nparams: {}", "hydra-target"),
        ("_target_: [os, system]", "hydra-target"),
        ("_target_: ${oc.env:X}", "hydra-target"),
        ("model: {impl: 'subprocess.Popen'}", "hydra-target"),
        ("a: !include:../../etc/x.yaml", "yaml-own-tag"),
        ("a: !mine [1]", "yaml-own-tag"),
        ("!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[]]]", "yaml-python-tag"),
        ("--- !ruby/object:Gem::Requirement\nx: 1\n", "yaml-python-tag"),
        ("flavors:\n  python_function:\n    loader_module: evil\n", "config-imports"),
        ("flavors:\n  python_function:\n    loader_module: os\n", "config-imports"),
        ("flavors: {python_function: {loader_module: mlflow.pyfunc.model, code: code}}", "transformers-remote-code"),
        ("flavors: {python_function: {loader_module: mlflow.pyfunc.loaders.code_model, model_code_path: m.py}}",
         "transformers-remote-code"),
        ("trust_remote_code: yes", "transformers-trust-switch"),
        ("auto_map: &a {AutoModel: modeling_x.X}\nb: *a\n", "transformers-remote-code"),
        ("a: \"{{ x.__cla\\x73s__ }}\"", "jinja-escape"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{n}: &{n} [{', '.join(['*' + m] * 10)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
         "yaml-alias-bomb"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_other_ways_of_yaml_to_act_are_found(text: str, rule: str) -> None:
    for content in carriers(text):
        assert rule in rules(content)
        assert scan_bytes(content).verdict is Verdict.FINDINGS


MLMODEL = """artifact_path: model
flavors:
  python_function:
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.7
  sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle, sklearn_version: 1.5.0}
mlflow_version: 2.14.1
signature:
  inputs: '[{"type": "double", "required": true, "name": "x"}]'
utc_time_created: '2026-07-01 10:00:00.000000'
"""


@pytest.mark.parametrize(
    "text",
    [
        MLMODEL,
        "model:\n  _target_: nemo.collections.asr.models.EncDecCTCModel\n  optim: {name: adamw, betas: [0.9, 0.98]}\n",
        "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params: {linear_start: 0.00085}\n",
        "language: en\nlicense: mit\ntags:\n- speech\n- !!str x\nvalue: !!float 1\n",
        "a: !!python/tuple [1, 2]\n",
        "encoder: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN\n    input_size: !ref <n_mels>\n",
        "%YAML 1.2\n---\na: &x {b: 1}\nc: *x\n...\n",
        "Wow! This is !important, and it costs $5: yes!\n! alone\n",
        "[tool.x]\na = 1\nb = {c = [1, 2]}\n",
        "![Stable](https://img/x.svg)\n- ![Other](y.svg)\n",
    ],
    ids=lambda text: text[:20].strip(),
)
def test_ordinary_yaml_and_toml_are_clean(text: str) -> None:
    for content in carriers(text):
        assert scan_bytes(content).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a: " + "{b: " * 900, "- " * 5000, "x = " + "[" * 5000, "? " * 3000, "&a [*a]"]
)
def test_deep_or_recursive_yaml_ends(text: str) -> None:
    scan_bytes(text.encode())


_VALUES = st.recursive(
    st.sampled_from(["1", "os.system", "*x", "&x y", "'q'", '"\\x5f"', "!!str a", "_target_"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(inner, inner), max_size=3).map(
            lambda ps: "{" + ", ".join(f"{k} : {v}" for k, v in ps) + "}"
        ),
        inner.map(lambda part: f"!!python/object/apply:os.system [{part}]"),
        inner.map(lambda part: f"!<tag:yaml.org,2002:python/object/new:os.%73ystem> [{part}]"),
        inner.map(lambda part: f"&x {part}"),
        inner.map(lambda part: f"? _target_\n: {part}\n"),
        inner.map(lambda part: f"a: {part}\n"),
        inner.map(lambda part: f'{{"_target\\x5f": {part}}}'),
        inner.map(lambda part: f"%TAG ! tag:yaml.org,2002:python/\n---\n!name:os.system {part}"),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(_VALUES)
def test_no_yaml_that_pyyaml_acts_on_is_missed(text: str) -> None:
    if imported(text):
        assert worst(text.encode()) is Severity.CRITICAL, text
    found: set[object] = set()
    with suppress(yaml.YAMLError, TypeError, ValueError):
        found = targets(list(yaml.safe_load_all(text)))
    if "os.system" in found:
        assert worst(text.encode()) is Severity.CRITICAL, text
