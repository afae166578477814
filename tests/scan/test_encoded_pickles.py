"""A pickle in a text of a structure: loaders decode it, and run it."""

import base64
import json
import pickle

import pytest

from buildkit.scan import Verdict
from tests.scan.craft import safetensors
from tests.scan.formatmaker import gguf
from tests.scan.pickler import describe, malicious_pickle, rules, scan_bytes
from tests.scan.test_pickle_declared import zipped

OLD = b"cposix\nsystem\n(S'id'\ntR."
DIGITS = {
    "base64": base64.b64encode(malicious_pickle()).decode(),
    "base64 of protocol 0": base64.b64encode(OLD).decode(),
    "hexadecimal": malicious_pickle().hex(),
    "characters": malicious_pickle().decode("latin-1"),
    "characters of protocol 0": OLD.decode(),
}
CONTAINERS = {
    "JSON": lambda text: json.dumps({"a": [{"b": text}]}).encode(),
    "JSON in a zip": lambda text: zipped("data", json.dumps({"a": text}).encode()),
    "YAML": lambda text: b"a:\n  - b: " + json.dumps(text).encode() + b"\n",
    "TOML": lambda text: b"[a]\nb = " + json.dumps(text).encode() + b"\n",
    "safetensors": lambda text: safetensors(a=text),
    "safetensors, JSON": lambda text: safetensors(a=json.dumps({"b": text})),
    "GGUF": lambda text: gguf({"a": text}),
    "GGUF, JSON": lambda text: gguf({"a": json.dumps({"b": text})}),
}


PAIRS = [(digits, container) for digits in DIGITS for container in CONTAINERS]
PAIRS.remove(("characters", "GGUF"))  # whose texts are bytes, not characters


@pytest.mark.parametrize(("digits", "container"), PAIRS)
def test_pickle_in_text_is_found(digits, container):
    found = scan_bytes(CONTAINERS[container](DIGITS[digits]))
    assert "pickle-runs-code" in rules(found), describe(found)


@pytest.mark.parametrize("container", CONTAINERS)
def test_ordinary_text_is_no_pickle(container):
    for text in (
        "conversational language model of 2025",
        "c" * 400,
        "deadbeef" * 8,
        base64.b64encode(bytes(99)).decode(),
    ):
        assert scan_bytes(CONTAINERS[container](text)).verdict is Verdict.CLEAN, text


def _data(digits: str) -> bytes:
    """The parameters of Stable-Baselines3, as they lie in its archive."""
    return json.dumps({"policy_class": {":type:": "<class 'abc.ABCMeta'>", ":serialized:": digits}}).encode()


@pytest.mark.parametrize("between", ["", "!", "-_", "\n"])
def test_serialized_pickle_is_decoded_as_its_loader_does(between):
    digits = between.join(DIGITS["base64"])
    for content in (_data(digits), zipped("data", _data(digits))):
        assert "pickle-runs-code" in rules(scan_bytes(content))


def test_serialized_pickle_is_scanned_to_its_end():
    harmless = pickle.dumps({"gamma": 0.99})
    assert scan_bytes(_data(base64.b64encode(harmless).decode())).verdict is Verdict.CLEAN
    for content in (b"", b"text", harmless + b"and more"):
        assert scan_bytes(_data(base64.b64encode(content).decode())).verdict is Verdict.PARTIAL, content
    assert scan_bytes(_data("a")).verdict is Verdict.PARTIAL
    assert scan_bytes(b'{":serialized:": [1]}').verdict is Verdict.CLEAN
