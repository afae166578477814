"""``scan-models`` end to end: verdicts, exit codes, checksums, SARIF, the allow-file, the cache of verdicts."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from buildkit.cli import scan_models
from buildkit.cli.guard import guarded
from tests.scan.craft import calling, safetensors

SCHEMA = json.loads((Path(__file__).parents[1] / "report/schemas/sarif-schema-2.1.0.json").read_text("utf-8"))
BAD = calling()
GOOD = safetensors()
UNKNOWN = b"\x93\x01\xfe" + bytes(range(7, 200)) * 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "project/models").mkdir(parents=True)
    return tmp_path / "project"


class Session:
    """Runs the session in a folder."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capfd = folder, capfd

    def __call__(self, *arguments: str, code: int) -> str:
        found = guarded(lambda: scan_models.run(self.folder, arguments))
        out, err = self._capfd.readouterr()
        assert found == code, out + err
        return out if code != 2 or out else err

    def json(self, *arguments: str, code: int) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self(*arguments, "--json", code=code))
        return value

    def one(self, *arguments: str, code: int) -> dict[str, Any]:
        (file,) = self.json(*arguments, code=code)["files"]
        assert isinstance(file, dict)
        return file


@pytest.fixture
def session(folder: Path, capfd: pytest.CaptureFixture[str]) -> Session:
    return Session(folder, capfd)


def write(folder: Path, name: str, data: bytes) -> str:
    (folder / "models" / name).write_bytes(data)
    return f"models/{name}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def allow(folder: Path, text: str) -> None:
    (folder / "requirements").mkdir(exist_ok=True)
    (folder / "requirements/models.allow.toml").write_text(text)


# verdicts and exit codes


def test_clean_file_exits_with_0(session: Session, folder: Path) -> None:
    file = session.one(write(folder, "a.bin", GOOD), code=0)
    assert (file["verdict"], file["findings"], file["formats"]) == ("clean", [], ["safetensors"])


def test_findings_exit_with_1_and_explain_themselves(session: Session, folder: Path) -> None:
    text = session(write(folder, "innocent.safetensors", BAD), code=1)
    assert "findings" in text
    assert "models/innocent.safetensors, byte" in text
    assert "os.system" in text or "posix.system" in text
    assert "why: " in text
    assert "do:  " in text
    assert text.rstrip().splitlines()[-1].startswith("1 file: 1 with findings; ")


def test_unknown_format_is_not_clean(session: Session, folder: Path) -> None:
    file = session.one(write(folder, "weights.bin", UNKNOWN), code=1)
    assert file["verdict"] == "not fully scanned"
    assert [one["rule"] for one in file["findings"]] == ["not-fully-scanned"]


@pytest.mark.parametrize(
    "arguments", [("missing.bin",), ("--jsn",), ("--allow", "missing.toml"), ("--sarif", "no/such/folder/x.sarif")]
)
def test_wrong_usage_exits_with_2(session: Session, arguments: tuple[str, ...]) -> None:
    assert "error: " in session(*arguments, code=2)


def test_unreadable_file_exits_with_2_and_others_are_scanned(session: Session, folder: Path) -> None:
    write(folder, "b.bin", GOOD)
    (folder / "models/a.bin").symlink_to("nowhere")
    found = session.json("models", code=2)
    assert [one["path"] for one in found["unreadable"]] == ["models/a.bin"]
    assert [one["path"] for one in found["files"]] == ["models/b.bin"]


def test_pipe_is_not_read(session: Session, folder: Path) -> None:
    os.mkfifo(folder / "models/pipe")
    write(folder, "b.bin", GOOD)
    assert session.one("models", code=0)["path"] == "models/b.bin", "in a folder it is no model"
    assert "neither a file nor a folder" in session("models/pipe", code=2)


def test_scan_without_stages_or_paths_exits_with_2(session: Session) -> None:
    assert "no stages" in session(code=2)


def test_file_names_are_escaped_for_terminal(session: Session, folder: Path) -> None:
    for name in ("line\nbreak.bin", "\x1b[31mred.bin", os.fsdecode(b"\xff\xfe.bin")):
        write(folder, name, BAD)
    text = session("models", code=1)
    assert "\x1b" not in text
    assert len(session.json("models", code=1)["files"]) == 3


# checksums


def test_json_has_checksums_of_content(session: Session, folder: Path) -> None:
    data = GOOD + bytes(3_000_000)
    file = session.one(write(folder, "a.bin", data), code=1)
    assert (file["sha256"], file["size"]) == (sha256(data), len(data))
    assert file["sha512"] == hashlib.sha512(data).hexdigest()


# what is remembered


def scanned(folder: Path) -> list[tuple[str, str, float]]:
    with closing(sqlite3.connect(folder.parent / "cache/ledger.sqlite")) as db:
        return db.execute("SELECT sha256, rules, scanned FROM verdicts ORDER BY scanned").fetchall()


def test_content_is_scanned_once_under_any_name(session: Session, folder: Path) -> None:
    write(folder, "a.bin", BAD)
    first = session.one("models", code=1)
    write(folder, "b.bin", BAD)
    again = session.json("models", code=1)["files"]
    assert [file["cached"] for file in (first, *again)] == [False, True, True]
    assert len(scanned(folder)) == 1
    assert [one["path"] for one in again[1]["findings"]] == ["models/b.bin"]
    assert {**again[0], "cached": 0, "seconds": 0} == {**first, "cached": 0, "seconds": 0}


def test_changed_file_is_scanned_again(session: Session, folder: Path) -> None:
    assert session.one(write(folder, "a.bin", GOOD), code=0)["verdict"] == "clean"
    file = session.one(write(folder, "a.bin", BAD), code=1)
    assert (file["verdict"], file["cached"]) == ("findings", False)


def test_changed_rules_cause_new_scan(session: Session, folder: Path) -> None:
    path = write(folder, "a.bin", calling("mine.layers", "Block"))
    session.one(path, code=1)
    allow(folder, '[[global]]\nname = "mine.layers.Block"\nreason = "ours"\n')
    file = session.one(path, code=0)
    assert (file["verdict"], file["cached"]) == ("clean", False)
    assert len({rules for _, rules, _ in scanned(folder)}) == 2


def test_no_cache_option_causes_new_scan(session: Session, folder: Path) -> None:
    path = write(folder, "a.bin", GOOD)
    session.one(path, code=0)
    before = scanned(folder)
    assert not session.one(path, "--no-cache", code=0)["cached"]
    assert scanned(folder) != before


# the allow-file


def accept(rule: str, data: bytes, reason: str = "seen by Ada") -> str:
    return f'[[accept]]\nrule = "{rule}"\nsha256 = "{sha256(data)}"\nreason = "{reason}"\n'


def test_accepted_finding_is_clean_and_reported_with_reason(session: Session, folder: Path) -> None:
    path = write(folder, "a.bin", BAD)
    rules = {one["rule"] for one in session.one(path, code=1)["findings"]}
    allow(folder, "".join(accept(rule, BAD) for rule in rules))
    file = session.one(path, code=0)
    assert file["verdict"] == "clean"
    assert {one["reason"] for one in file["accepted"]} == {"seen by Ada"}
    assert "accepted: models/a.bin: " in session(path, code=0)


def test_acceptance_does_not_cover_other_files(session: Session, folder: Path) -> None:
    path = write(folder, "a.bin", BAD)
    rules = {one["rule"] for one in session.one(path, code=1)["findings"]}
    allow(folder, "".join(accept(rule, GOOD) for rule in rules))
    assert session.one(path, code=1)["verdict"] == "findings"


def test_gap_can_be_accepted(session: Session, folder: Path) -> None:
    path = write(folder, "a.bin", UNKNOWN)
    (folder / "other.toml").write_text(accept("not-fully-scanned", UNKNOWN))
    assert session.one(path, code=1)["verdict"] == "not fully scanned"
    assert session.one(path, "--allow", "other.toml", code=0)["verdict"] == "clean"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[global]]\nname = "a.b"\n', "`global[0].reason`: is missing"),
        ('[[global]]\nname = "a.b"\nreason = " "\n', "a reason: who reviewed it"),
        ('[[global]]\nname = "eval"\nreason = "x"\n', "`eval` is not MODULE.NAME"),
        ('[[accept]]\nrule = "r"\nsha256 = "ab"\nreason = "x"\n', "`ab` is not a SHA-256"),
        ("[[globals]]\n", "did you mean `global`?"),
        ("[[", "is not TOML"),
    ],
)
def test_malformed_allow_file_exits_with_2_and_names_position(
    session: Session, folder: Path, text: str, expected: str
) -> None:
    allow(folder, text)
    message = session(write(folder, "a.bin", GOOD), code=2)
    assert "requirements/models.allow.toml" in message
    assert expected in message


# SARIF


def test_sarif_is_valid_and_marks_accepted_findings(session: Session, folder: Path) -> None:
    file = folder / "out.sarif"
    path = write(folder, "a.bin", BAD)
    rule = session.one(path, "--sarif", str(file), code=1)["findings"][0]["rule"]
    write(folder, "b.bin", GOOD)
    allow(folder, accept(rule, BAD))
    session("models", "--sarif", str(file), code=int(bool(session.json("models", code=0)["exit_code"])))
    log = json.loads(file.read_text())
    jsonschema.Draft4Validator(SCHEMA).validate(log)
    (run,) = log["runs"]
    assert all(one["suppressions"][0]["justification"] == "seen by Ada" for one in run["results"])
    assert {one["location"]["uri"]: one["hashes"]["sha-512"] for one in run["artifacts"]} == {
        "models/a.bin": hashlib.sha512(BAD).hexdigest(),
        "models/b.bin": hashlib.sha512(GOOD).hexdigest(),
    }


def test_binary_that_begins_like_json_is_not_clean(session: Session, folder: Path) -> None:
    data = b"[7\xe5\x0c\xb1\x83N7\x102\x0fLJ" + bytes(range(256)) * 8
    assert session.one(write(folder, "a.bin", data), code=1)["verdict"] == "not fully scanned"


# second opinions


def test_second_opinions_are_compared_and_disagreement_is_a_finding(
    session: Session, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "bad.pkl", BAD)
    write(folder, "good.pkl", pickle.dumps([1.0]))
    bad, good = session.json("models", "--second-opinion", code=1)["files"]
    assert [one["unsafe"] for one in (*bad["opinions"], *good["opinions"])] == [True, True, False, False]
    assert good["verdict"] == "clean"
    (tmp_path / "picklescan").mkdir()
    (tmp_path / "picklescan/__init__.py").touch()
    (tmp_path / "picklescan/scanner.py").write_text(
        "from types import SimpleNamespace as N\n"
        "one = N(module='m', name='n', safety=N(value='dangerous'))\n"
        "def scan_file_path(path):\n"
        "    return N(globals=[one], issues_count=1, scan_err=False, scanned_files=1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = session.one("models/good.pkl", "--second-opinion", code=1)
    assert [one["rule"] for one in file["findings"]] == ["engines-disagree"]
    assert file["findings"][0]["what"].endswith("calls it unsafe (m.n); here it is clean")
    again = session.one("models/good.pkl", "--no-cache", code=1)
    assert [one["rule"] for one in again["findings"]] == ["engines-disagree"], "installed scanners are always asked"
    assert session.one("models/good.pkl", code=1)["cached"], "the opinion is kept with the verdict"
