"""All kinds of text: templates, configurations, YAML, XML, scripts, Git LFS pointers, and hostile JSON."""

import json

import pytest

from buildkit.findings import Severity
from buildkit.scan import ScanLimits, Verdict
from tests.scan.formatmaker import rules, scan_bytes, worst

BENIGN = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "llama": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|header|>' + "
    "message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}",
    "tools": "{%- set ns = namespace(found=false, index=0) %}{%- if tools is not none %}{{- tools | tojson(indent=4) }}"
    "{%- endif %}{%- for m in messages[1:] | reverse %}{%- if m.role == 'system' and not ns.found %}"
    "{% set ns.found = true %}{{ m.content | replace('_', ' ') }}{{ keys | join('_') }}"
    "{% elif m['tool_calls'] is defined %}{{ raise_exception('no call here') }}{% endif %}{%- endfor %}",
    "macro": "{% macro render(x, sep=', ') %}{{ x | map(attribute='name') | join(sep) }}{% endmacro %}"
    "{{ strftime_now('%d %b %Y') }}{{ {'a': {'b': 1}}['a'] }}{% for i in range(3) %}{{ i }}{% endfor %}",
    "comment": "{# __class__ of things #}{% raw %}{{ x.__class__ }}{% endraw %}__init__ outside of {{ 'code' }}",
    "eval": "{% if evaluate %}{{ messages.system }}{{ opening(3) }}{{ os_name }}{% endif %}",
}


@pytest.mark.parametrize("name", BENIGN)
def test_ordinary_template_is_clean(name):
    template = BENIGN[name]
    for content in (template.encode(), json.dumps({"chat_template": template, "bos_token": "<s>"}).encode()):
        assert scan_bytes(content).findings == ()
        assert scan_bytes(content).verdict is Verdict.CLEAN


EVIL = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ x['__class__'] }}",
    "{{ x['__cla' ~ 'ss__'] }}",
    "{{ x['__cla' + 'ss__'] }}",
    "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ x['\\u005f\\u005fclass__'] }}",
    "{{ x['\\137\\137class__'] }}",
    "{{ x|attr('__class__') }}",
    "{{ x|attr(request_args) }}",
    "{{ x | attr ( y ) }}",
    "{{ [x]|map('attr', y)|list }}",
    "{{ [x]|map(attribute='__class__')|list }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('id') }}",
    "{{ joiner['__init__'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ dict(__class__=1)|join }}",
    "{{ x['%c%cclass%c%c'|format(95,95,95,95)] }}",
    "{{ x[('_' * 2) ~ 'class' ~ ('_' * 2)] }}",
    "{{ x['__ssalc__'|reverse] }}",
    "{{ ['__', 'class', '__']|join }}",
    "{{ x[['', '', 'class', '', '']|join('_')] }}",
    "{{ x['..class..'|replace('.', '_')] }}",
    '{{ "{0.__class__}".format(x) }}',
    "{% set a = lipsum %}{{ a }}",
    "{%- if x.__class__ -%}y{%- endif -%}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'x' import y %}",
    "{{ eval('1') }}",
    "{{ x.os.system('id') }}",
    "{{ {'a': {}}.__class__ }}",
    "text {{ a }} text {%   set z = y.__init__ %}",
]


@pytest.mark.parametrize("template", EVIL)
def test_unsafe_template_is_found_in_any_carrier(template):
    settings = {"chat_template": [{"name": "default", "template": template}]}
    for content in (template.encode(), json.dumps(settings).encode(), json.dumps({"deep": [{"x": template}]}).encode()):
        assert worst(content) >= Severity.HIGH
        assert rules(content) <= {"jinja-escape", "jinja-reach", "python-source"}  # some are sets of sets in Python


def test_endless_template_loop_is_found():
    assert rules(b"{% for i in range(10000000000) %}x{% endfor %}") == {"jinja-burden"}
    assert rules(b"{{ 'x' * 99999999999 }}") == {"jinja-burden"}


def test_template_is_found_after_a_megabyte():
    for before in (2**20 - 4, 2**20 - 9, 2**20 + 5, 3 * 2**20):
        assert "jinja-escape" in rules(b"word " * (before // 5) + b"x" * (before % 5) + b"{{ x.__class__ }}")


@pytest.mark.parametrize(
    ("settings", "rule", "severity"),
    [
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, "transformers-remote-code", Severity.MEDIUM),
        (
            {"vision": {"auto_map": {"AutoModel": ["a/b--modeling_x.X", None]}}},
            "transformers-remote-code",
            Severity.HIGH,
        ),
        ({"trust_remote_code": True}, "transformers-trust-switch", Severity.HIGH),
        ({"model": {"_target_": "os.system", "command": "id"}}, "hydra-target", Severity.CRITICAL),
        ({"_target_": "builtins.exec"}, "hydra-target", Severity.CRITICAL),
        ({"_target_": "mine.Model"}, "hydra-target", Severity.LOW),
        ({"__class__": "system", "__module__": "os", "__loader__": "TypeNode"}, "skops-type", Severity.CRITICAL),
        ({"__class__": "f", "__module__": "sklearn.x", "__loader__": "MethodNode"}, "skops-type", Severity.HIGH),
    ],
)
def test_setting_that_runs_code_is_found(settings, rule, severity):
    content = json.dumps(settings).encode()
    assert (rules(content), worst(content)) == ({rule}, severity)


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {}, "trust_remote_code": False, "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        {"_target_": "nemo.collections.asr.models.EncDecCTCModel"},
        {"__class__": "LinearRegression", "__module__": "sklearn.linear_model._base", "__loader__": "ObjectNode"},
        {"version": "1.0", "model": {"vocab": {"{%": 1, "{{": 2, "__class__": 3, "}}": 4}, "merges": ["{ {", "% }"]}},
        [1, 2.5, -3e9, None, True, "x"],
    ],
)
def test_ordinary_setting_is_clean(settings):
    assert scan_bytes(json.dumps(settings).encode()).verdict is Verdict.CLEAN


def test_malformed_too_deep_or_too_large_json_is_not_clean():
    for content in (b'{"a": 1', b'{"a":' * 100_000, b'{"a": ' + b"1" * 5000 + b"}", b'{"a": "\xff"}'):
        assert scan_bytes(content).verdict is Verdict.PARTIAL
    assert scan_bytes(b'{"a": "' + b"x" * 5000 + b'"}', ScanLimits(json=4000)).verdict is Verdict.PARTIAL


def test_json_lines_and_other_encodings_are_read():
    text = '{"a": 1}\n{"chat_template": "{{ x.__class__ }}"}\n'
    for content in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert rules(content) == {"jinja-escape"}


def test_text_that_begins_with_bracket_is_scanned_as_text():
    assert scan_bytes(b"[1] A reference, not JSON.\n").verdict is Verdict.CLEAN
    assert scan_bytes(b"[tool.x]\na = 1\n").verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "text",
    [
        "# README\n\nUse it so:\n\n```python\nimport torch\nmodel = torch.load('x')\n```\n",
        "hello\nworld\n##ing\n[UNK]\n{{\n{%\n%}\n__init__\nimport\n",
        "key: value\nlist: [a, b]\npython: '!!python'\n",
        "You can import torch\nfrom time import time, if so.\nIt is import numpy as np\nimport torch\nas you see\n",
        "<div align='center'><h1>Model</h1></div>\n\nText of a model card.\n",
        "class Net(Module):\n  __parameters__ = ['w', ]\n  def forward(self: Net, x: Tensor) -> Tensor:\n    return x",
        "\x1b[1mbold\x1b[0m\n",
        '<?xml version="1.0"?>\n<PMML version="4.4"><Header/></PMML>\n',
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN" "http://www.w3.org/TR/xhtml1/DTD/x.dtd">\n<html></html>',
        '<?xml version="1.0"?><net name="x" version="11"><layer id="0" type="Add" version="opset1"/></net>',
        "tree\nversion=v4\nnum_class=1\n",
    ],
    ids=lambda text: text[:20].strip(),
)
def test_ordinary_text_is_clean(text):
    assert scan_bytes(text.encode()).findings == ()
    assert scan_bytes(text.encode()).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("#!/bin/sh\nrm -rf /\n", "program"),
        ("#! /usr/bin/env python3\nprint(1)\n", "program"),
        ("@echo off\r\ndel *\r\n", "script"),
        ("<?php system($_GET['x']); ?>", "script"),
        ("powershell -enc SQBFAFgA", "script"),
        ("import os\nos.system('id')\n", "python-source"),
        ("# a file\nfrom x import (\n    y,\n)\n\nclass A(y):\n    pass\n", "python-source"),
        ('"""A module.\n\nWith words in it that are no code.\n"""\n\nimport torch\n\nX = 1\n', "python-source"),
        ("exec('print(1)')\n", "python-source"),
        ("a: !!python/object/apply:os.system ['id']\n", "yaml-python-tag"),
        ("- !!python/name:os.system\n", "yaml-python-tag"),
        ("a: !<tag:yaml.org,2002:python/object/new:os.system> [id]\n", "yaml-python-tag"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\na: !object/new:os.system [id]\n", "yaml-python-tag"),
        ("model:\n  _target_: os.system\n", "hydra-target"),
        ('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><PMML>&e;</PMML>', "xml-entity"),
        ('<!DOCTYPE PMML SYSTEM "http://evil/x.dtd"><PMML/>', "xml-entity"),
        ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><a>&b;</a>', "xml-entity"),
        ("<html><body><script>alert(1)</script></body></html>", "active-markup"),
        ('<svg xmlns="x" onload="alert(1)"/>', "active-markup"),
        (
            '<?xml version="1.0"?><net name="x"><layer id="0" type="Mine" version="extension"/></net>',
            "openvino-extension",
        ),
        ("harmless\x1b[2Khidden\n", "terminal-escape"),
        ("\x1b]0;title\x07", "terminal-escape"),
    ],
    ids=lambda text: text[:24].strip(),
)
def test_active_text_is_found(text, rule):
    assert rule in rules(text.encode())
    if rule not in ("program", "script"):
        assert rule in rules(text.encode("utf-16"))


def test_latin_1_names_do_not_make_text_binary():
    text = "A model by Jürgen Müller.\n" * 300
    assert scan_bytes(b"plain words\n" * 400 + text.encode("latin-1")).verdict is Verdict.CLEAN


def test_vocabulary_with_brackets_is_not_a_template():
    vocabulary = ["hello", "{{", "{%", "__init__", "__class__", "x", "lipsum", "%}", "}}", "eval", "(", "{#"]
    assert scan_bytes("\n".join(vocabulary * 50).encode()).verdict is Verdict.CLEAN


def test_git_lfs_pointer_is_a_gap():
    found = scan_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n")
    assert found.verdict is Verdict.PARTIAL
    assert "12345" in found.gaps[0].why


def test_text_with_later_binary_is_a_gap():
    for rest in (b"\xff\xfe" * 50_000, b"\0\0", b"\x01"):
        assert scan_bytes(b"word " * 300_000 + rest).verdict is Verdict.PARTIAL


def test_findings_of_text_are_limited():
    found = scan_bytes(b"{{ x.__a__ }}" * 20_000)
    assert 0 < len(found.findings) <= ScanLimits().findings


@pytest.mark.parametrize(
    "content",
    [
        b'{{ "' + b'\\"' * 500_000, b"{{ '" + b"\\'" * 500_000, b"{{" * 500_000, b"{#" * 500_000,
        b"{% raw %}" * 100_000,
        b'import os\n"""' + b'\\"""' * 250_000, b"import a" + b", a" * 300_000 + b"!", b"<layer " * 150_000,
        b"<!DOCTYPE " * 100_000, b"\x1b]" * 500_000, b"{{ 'a'" + b"~'a'" * 200_000 + b" }}", b"_target_ " * 100_000,
        b'<?xml version="1.0"?>' + b"<!DOCTYPE x" * 90_000,
        b"{{ " + b"(" * 900_000, b"op:" * 300_000, b"from " * 200_000, b"{{ 'a' }}" * 100_000,
    ],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_hostile_repetition_is_scanned_quickly(content):
    scan_bytes(content)
