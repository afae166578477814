import json
from pathlib import Path

import pytest

from buildkit.cli import doctor
from buildkit.cli.guard import guarded
from buildkit.doctor.diagnosis import Diagnosis, error, note, ok, warning
from buildkit.doctor.render import render_json, render_text

FOLDER = Path()
FINDINGS = (
    ok("git", "git 2.47"),
    note("log-ins", "no registry log-ins", "pushes need one", "skopeo login REGISTRY"),
    warning("storage", "images are kept by vfs", "commits are slow", "sudo apt-get install fuse-overlayfs"),
)

PLAIN = """\
ok       git 2.47
note     no registry log-ins
         costs: pushes need one
         mend:  skopeo login REGISTRY
warning  images are kept by vfs
         costs: commits are slow
         mend:  sudo apt-get install fuse-overlayfs

1 ok, 1 note, 1 warning, 0 errors
"""


def test_findings_are_rendered_as_plain_text() -> None:
    assert render_text(FINDINGS, width=80, colour=False) == PLAIN


def test_colour_changes_nothing_but_the_marks() -> None:
    coloured = render_text(FINDINGS, width=80, colour=True)
    assert "\x1b[33mwarning  \x1b[0mimages" in coloured
    for code in ("32", "33", "36", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == PLAIN


def test_long_texts_wrap_but_commands_do_not() -> None:
    command = "sudo " + "x" * 90
    text = render_text([error("a", "word " * 30, "cost " * 30, command)], width=50, colour=False)
    lines = text.splitlines()
    assert max(len(line) for line in lines if "xxx" not in line) <= 50
    assert f"         mend:  {command}" in lines
    assert text.count("word") == 30
    assert text.count("cost ") + text.count("cost\n") == 30
    assert all(line.startswith(("ERROR", "         ")) for line in lines[:-2])


@pytest.mark.parametrize("foreign", ["\x1b[2Jx", "\x1b]0;title\x07x", "a\rb", "a\x9b31mb", "a\nb"])
def test_foreign_escapes_never_reach_a_terminal(foreign: str) -> None:
    finding = Diagnosis(id="x", status=ok("", "").status, what=foreign, cost=foreign, mend=foreign)
    for text in (render_text([finding], width=80, colour=False), render_json([finding])):
        assert not {mark for mark in text if mark < " " or "\x7f" <= mark <= "\x9f"} - {"\n"}
    assert len(render_text([finding], width=80, colour=False).splitlines()) == 5


def test_json_holds_everything() -> None:
    document = json.loads(render_json(FINDINGS))
    assert document["findings"][2] == {
        "id": "storage",
        "status": "warning",
        "what": "images are kept by vfs",
        "cost": "commits are slow",
        "mend": "sudo apt-get install fuse-overlayfs",
    }
    assert json.loads(render_json([])) == {"findings": []}


def test_exit_code_is_1_only_for_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda arches=(): FINDINGS)
    assert doctor.run(FOLDER, []) == 0
    assert capsys.readouterr().out == PLAIN
    assert doctor.run(FOLDER, ["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"]
    monkeypatch.setattr(doctor, "diagnose", lambda arches=(): (*FINDINGS, error("git", "gone", "all")))
    assert doctor.run(FOLDER, []) == 1
    assert guarded(lambda: doctor.run(FOLDER, ["--wrong"])) == 2
    with pytest.raises(SystemExit) as ended:
        doctor.run(FOLDER, ["--help"])
    assert ended.value.code == 0


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_used_only_on_suitable_terminals(
    env: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"TERM": "xterm", "NO_COLOR": "", **env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "diagnose", lambda arches=(): FINDINGS)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    doctor.run(FOLDER, [])
    assert ("\x1b[" in capsys.readouterr().out) is coloured
