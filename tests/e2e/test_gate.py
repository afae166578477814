"""No model becomes, or stays, a layer before it was scanned: the gate in real builds."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest

from tests.e2e.conftest import add_wheel
from tests.e2e.tinyproject import Tiny
from tests.scan.craft import calling

pytestmark = pytest.mark.tools

BAD = calling()
UNKNOWN = b"\x93\x01\xfe" + bytes(range(7, 200)) * 3
ALLOW = "requirements/models.allow.toml"


def add_model(tiny: Tiny, data: bytes) -> None:
    (tiny.project / "models/greeter/net.bin").write_bytes(data)
    tiny.lock()


def accept(tiny: Tiny, data: bytes) -> None:
    text = tiny.run("scan-models", "--json").text
    found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    rules = {one["rule"] for file in found["files"] for one in file["findings"]}
    digest = hashlib.sha256(data).hexdigest()
    tiny.write(ALLOW, "".join(f'[[accept]]\nrule = "{r}"\nsha256 = "{digest}"\nreason = "ours"\n' for r in rules))


def test_malicious_model_stops_the_build_before_packing_until_it_is_removed(tiny: Tiny) -> None:
    add_model(tiny, BAD)
    message = tiny.refuse("models", "--no-import", code=1)
    assert "models/greeter/net.bin: refused: " in message
    assert "critical pickle-" in message
    assert "system" in message
    assert "why: " in message
    assert "hint: " in message
    assert hashlib.sha256(BAD).hexdigest() in message, "what to write into the allow-file"
    assert len(tiny.blobs()) == 1, "the other model's, which does not depend on it"
    (tiny.project / "models/greeter/net.bin").unlink()
    tiny.lock()
    assert tiny.build("models", "--no-import").built().keys() == {"models/greeter"}


def test_accepted_model_is_built_and_refused_once_it_is_no_longer_accepted(tiny: Tiny) -> None:
    add_model(tiny, BAD)
    accept(tiny, BAD)
    assert "models/greeter" in tiny.build("models", "--no-import").built()
    assert tiny.build("models", "--no-import").built() == {}
    (tiny.project / ALLOW).unlink()
    assert "models/greeter/net.bin: refused: " in tiny.refuse("models", "--no-import", code=1)


def test_model_file_is_scanned_once_by_build_or_scan_models(tiny: Tiny) -> None:
    assert tiny.run("scan-models", "models").code == 0
    verdicts = tiny.rows("verdicts")
    assert len(verdicts) == 3
    first = tiny.build("models", "--no-import")
    assert "scan" not in {line.split()[0] for line in first.text.splitlines() if line.strip()}
    tiny.write("models/speller/weights.txt", "other weights")
    second = tiny.build("models", "--no-import", "--changed-models")
    assert [line.split()[1] for line in second.text.splitlines() if line.split()[:1] == ["scan"]] == ["models/speller"]
    assert len(tiny.rows("verdicts")) == 4


def test_unknown_format_is_warned_of_or_refused_by_setting(tiny: Tiny) -> None:
    add_model(tiny, UNKNOWN)
    warned = tiny.build("models", "--no-import")
    assert "warning  models/greeter/net.bin: unknown format, so not scanned" in warned.text
    pyproject = (tiny.project / "pyproject.toml").read_text()
    tiny.write("pyproject.toml", pyproject.replace("[tool.buildkit]", '[tool.buildkit]\nunscanned-models = "refuse"'))
    message = tiny.refuse("models", "--no-import", code=1)
    assert "net.bin: refused: it could not be fully scanned" in message
    accept(tiny, UNKNOWN)
    tiny.build("models", "--no-import")


def test_model_inside_a_wheel_is_scanned(tiny: Tiny) -> None:
    add_wheel(tiny.folder / "links", "weights", "1.0", {"weights/net.safetensors": BAD * 2, "weights/__init__.py": b""})
    with (tiny.project / "requirements/models.toml").open("a") as file:
        file.write(
            '\n[[model]]\nname = "net"\nsource = "pypi:weights"\nlicense = "MIT"\nfiles = ["weights/*.safetensors"]\n'
        )
    tiny.lock()
    assert "net/net.safetensors: refused: " in tiny.refuse("models", "--no-import", code=1)
    session = tiny.run("scan-models")
    assert session.code == 1
    assert "net/net.safetensors, byte" in session.text
    assert tiny.left_over() == []


def test_wheel_with_code_of_its_own_accord_stops_the_build_until_it_is_accepted(tiny: Tiny) -> None:
    files = {"gamma/__init__.py": b"", "gamma.pth": b"import gamma\n", "gamma/net.pkl": BAD}
    add_wheel(tiny.folder / "links", "gamma", "1.1", files)
    tiny.replace("requirements/app.in", "gamma==1.0", "gamma==1.1")
    tiny.lock()
    message = tiny.refuse("app", "--no-import", code=1)
    assert "gamma-1.1-py3-none-any.whl: refused: " in message
    assert "wheel-startup-code: gamma.pth: it runs 'import gamma'" in message
    assert "critical pickle-" in message
    rules = {word.partition(":")[0] for word in message.split() if word.startswith(("pickle-", "wheel-"))}
    entry = '[[accept-in-wheel]]\nrule = "{}"\ndistribution = "gamma"\npath = "gamma*"\nreason = "ours"\n'
    tiny.write(ALLOW, "".join(map(entry.format, rules)))
    assert tiny.build("app", "--no-import").built()
    assert tiny.build("app", "--no-import").built() == {}


FAKE = """from types import SimpleNamespace as N
one = N(module='m', name='n', safety=N(value='dangerous'))
def scan_file_path(path):
    {body}
"""
UNSAFE = "return N(globals=[one], issues_count=1, scan_err=False, scanned_files=1)"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [(UNSAFE, 1, "calls it unsafe (m.n); here it is clean"), ("raise KeyError('lost')", 0, "KeyError: 'lost'")],
    ids=["unsafe", "failed"],
)
def test_second_opinion_refuses_a_model_or_its_failure_is_said(tiny: Tiny, body: str, code: int, message: str) -> None:
    (tiny.folder / "fakes/picklescan").mkdir(parents=True)
    (tiny.folder / "fakes/picklescan/__init__.py").touch()
    (tiny.folder / "fakes/picklescan/scanner.py").write_text(FAKE.format(body=body))
    tiny.env["PYTHONPATH"] = f"{tiny.folder / 'fakes'}:{tiny.env['PYTHONPATH']}"
    add_model(tiny, pickle.dumps([1.0]))
    for _ in range(2):  # the second build knows the verdict
        text = tiny.refuse("models", "--no-import", code=1) if code else tiny.build("models", "--no-import").text
        assert message in text
        assert len(tiny.blobs()) == (1 if code else 2), "packed while it was read, and kept only if nobody objects"
