"""What the reloader decides, without a process: programs, changes, selection of tests, requests, messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit.reload.code import CodeStore
from buildkit.reload.control import RequestError, parse_request
from buildkit.reload.debugger import RESTART, render_message, split_messages
from buildkit.reload.decide import Part, decide
from buildkit.reload.generations import find_place
from buildkit.reload.kept import Kept
from buildkit.reload.limits import limit_threads
from buildkit.reload.program import parse_program
from buildkit.reload.selection import Source, parse_imports, select_tests
from buildkit.reload.trees import AppTrees, find_changes, scan_trees


def no_program(_):
    return None


@pytest.mark.parametrize(
    ("command", "script", "module", "options", "arguments"),
    [
        (["python", "main.py"], "main.py", "", (), ()),
        (
            ["python3.13", "-u", "-X", "dev", "-m", "app", "--port", "1"],
            "",
            "app",
            ("-u", "-X", "dev"),
            ("--port", "1"),
        ),
        (["tini", "--", "python", "main.py"], "main.py", "", (), ()),
        (["sh", "-c", "exec python main.py 8000"], "main.py", "", (), ("8000",)),
        (["python", "-m", "uvicorn", "a:b", "--reload", "--workers", "4"], "", "uvicorn", (), ("a:b",)),
        (["python", "-m", "gunicorn", "a:b", "--workers=4"], "", "gunicorn", (), ("a:b", "--workers", "1")),
    ],
)
def test_python_programs_are_recognised_and_lose_their_own_reloading(command, script, module, options, arguments):
    program = parse_program(command, no_program)
    assert program is not None
    assert (program.script, program.module) == (script, module)
    assert (program.options, program.arguments) == (options, arguments)


@pytest.mark.parametrize("command", [["node", "x.js"], ["python", "-c", "1"], ["sh", "-c", "python x.py | cat"], []])
def test_other_commands_are_no_python_program(command):
    assert parse_program(command, no_program) is None


def test_console_script_is_run_by_its_path(tmp_path):
    script = tmp_path / "uvicorn"
    script.write_text("#!/opt/venv/bin/python\nimport uvicorn\n")
    program = parse_program(["uvicorn", "app:app", "--reload"], lambda _: str(script), "/opt/venv/bin/python")
    assert program is not None
    assert (program.python, program.script, program.arguments) == ("/opt/venv/bin/python", str(script), ("app:app",))


TREES = AppTrees(folders=("/srv/app",))


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        (["/srv/app/api.py"], Part.WORKER),
        (["/srv/app/page.html"], Part.WORKER),
        (["/srv/app/api.py", "/srv/app/model.py"], Part.KEPT),
        (["/srv/app/api.py", "/opt/venv/lib/python3.13/site-packages/numpy/core.py"], Part.CONTAINER),
        (["/srv/app/test_api.py", "/srv/app/__pycache__/api.cpython-313.pyc", "/srv/app/.api.py.swp"], Part.NOTHING),
        (["/etc/hosts"], Part.NOTHING),
    ],
)
def test_dearest_part_of_what_changed_is_made_anew(changed, part):
    assert decide(changed, TREES, frozenset({"/srv/app/model.py"})).part == part


def test_scan_finds_what_came_went_and_changed_but_no_bytecode(tmp_path):
    trees = AppTrees(folders=(str(tmp_path),))
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text("1")
    before = scan_trees(trees)
    (tmp_path / "a.py").unlink()
    (tmp_path / "b.py").write_text("22")
    (tmp_path / "d.py").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/b.cpython-313.pyc").write_text("1")
    assert [Path(path).name for path in find_changes(before, scan_trees(trees))] == ["a.py", "b.py", "d.py"]


def test_code_is_found_by_its_text_and_pins_give_an_older_one(tmp_path):
    (tmp_path / "code").mkdir()
    file = tmp_path / "m.py"
    results = []
    for text in ("value = 1\n", "value = 2\n"):  # the same size, the same second
        file.write_text(text)
        store = CodeStore(tmp_path / "code")
        space = {}
        exec(store.get_code(str(file)), space)
        results.append((space["value"], store.used[str(file)]))
    assert [value for value, _ in results] == [1, 2]
    space = {}
    exec(CodeStore(tmp_path / "code", {str(file): results[0][1]}).get_code(str(file)), space)
    assert space["value"] == 1


def test_kept_function_is_called_once_for_equal_arguments_and_tells_of_the_call():
    calls, told = [], []
    kept = Kept("m:load", lambda *words, **named: calls.append((words, named)) or len(calls), told.append)
    assert [kept("a"), kept("a"), kept("a", size=1)] == [1, 1, 2]
    assert len(calls) == len(told) == 2
    assert kept(open) == 3  # pickled by its name
    again = Kept("m:load", lambda *_, **__: "new")
    again.remember(told[0][1])
    assert again("a") == "new"


def test_arguments_that_cannot_be_pickled_are_passed_through():
    kept = Kept("m:load", lambda value: object())
    assert kept(lambda: 1) is not kept(lambda: 1)


def test_limits_return_what_was_set_before():
    environ = {"OMP_NUM_THREADS": "8"}
    before = limit_threads(environ)
    assert environ["OMP_NUM_THREADS"] == environ["MKL_NUM_THREADS"] == "1"
    assert (before["OMP_NUM_THREADS"], before["MKL_NUM_THREADS"]) == ("8", None)


def test_imports_are_read_with_relative_ones():
    text = "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\ndef h():\n    import i\n"
    assert parse_imports(text, "p.q") == {"a.b", "c", "c.d", "p.q", "p.q.e", "p.f", "p.f.g", "i"}


def source(path, *imports):
    name = path.removesuffix(".py").rpartition("/")[2]
    return Source(path=path, names=frozenset({name}), imports=frozenset(imports))


def test_tests_are_chosen_by_what_they_reach():
    sources = [
        source("/a/api.py", "service"),
        source("/a/service.py"),
        source("/a/other.py"),
        source("/a/tests/conftest.py", "other"),
        source("/a/tests/test_api.py", "api"),
        source("/b/test_alone.py"),
    ]
    assert select_tests(sources, ["/a/service.py"]) == ["/a/tests/test_api.py"]
    assert select_tests(sources, ["/a/other.py"]) == ["/a/tests/test_api.py"]  # through its conftest
    assert select_tests(sources, ["/b/test_alone.py"]) == ["/b/test_alone.py"]
    assert select_tests(sources, ["/a/tests/conftest.py"]) is None
    assert select_tests(sources, ["/a/page.html"]) is None


@pytest.mark.parametrize("line", [b"x", b"[]", b'{"request": "explode"}', b'{"request": "changed", "paths": [1]}'])
def test_bad_request_is_refused(line):
    with pytest.raises(RequestError):
        parse_request(line)


def test_messages_of_the_debugger_are_split_at_their_ends():
    one, two = render_message("{}"), render_message(RESTART)
    assert split_messages(one + two[:10]) == (one, two[:10])
    assert split_messages(one + two) == (one + two, b"")
    assert json.loads(two.partition(b"\r\n\r\n")[2])["body"] == {"restart": True}


def test_place_of_an_error_is_the_last_frame_of_the_application():
    text = (
        'Traceback:\n  File "/srv/app/api.py", line 3, in <module>\n  File "/usr/lib/python3/json.py", line 9, in x\n'
    )
    assert find_place(text, TREES.holds) == {"file": "/srv/app/api.py", "line": 3}
