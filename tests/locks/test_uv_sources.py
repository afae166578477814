"""Requirements of inputs that have a source in [tool.uv.sources], and what is refused of them."""

import pytest

from buildkit.locks.uv_sources import find_source_problems, find_sourced

TABLE = """[tool.uv.sources]
torch = [{ index = "cpu", marker = "sys_platform == 'linux'" }, { index = "own" }]
My_Lib = { path = "libs/mine/" }
member = { workspace = true }
cloned = { git = "https://host.example/x" }
"""
INPUT = """torch[opt]>=2 ; sys_platform == 'linux' --hash=sha256:00  # why
-r more.in
-c limits.in
torchvision
torch @ https://host.example/x.whl
./torch
torch/x
"""
FILES = {
    "pyproject.toml": TABLE,
    "requirements/app.in": INPUT,
    "requirements/more.in": "torch\n-r app.in\n",
    "requirements/limits.in": "torch<3\n",
}


def sourced(**files):
    read = {**FILES, **files}.get
    return [(found.file, found.line, found.text) for found in find_sourced("requirements/app.in", read)]


def problems(text, locker="uv", **files):
    read = {**FILES, "app.in": text, **files}.get
    return [(problem.file, problem.what, problem.hint) for problem in find_source_problems("app.in", read, locker)]


def test_requirements_of_inputs_with_a_source_are_found_and_constraints_left_out():
    assert sourced() == [
        ("requirements/app.in", 1, "torch[opt]>=2 ; sys_platform == 'linux'"),
        ("requirements/more.in", 1, "torch"),
    ]
    assert sourced(**{"pyproject.toml": "[tool.uv]\n"}) == sourced(**{"pyproject.toml": "sources = ["}) == []


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("my.lib==1", "does not apply to inputs", "./libs/mine"),
        ("member", "does not apply to inputs", "./libs/x"),
        ("cloned", "does not apply to inputs", "write: cloned @ git+https://host.example/x@REVISION"),
    ],
)
def test_sources_that_do_not_count_for_inputs_are_refused_at_their_line(name, what, hint):
    ((place, said, told),) = problems(f"other\n{name}\n")
    assert place == "app.in:2"
    assert said.startswith(f"`{name.partition('=')[0]}` has a source in [tool.uv.sources] of pyproject.toml")
    assert what in said
    assert hint in told


def test_sources_of_indexes_count_with_uv_alone():
    assert problems("torch\n") == []
    ((place, said, told),) = problems("torch\n", "pip-tools")
    assert (place, told) == ("app.in:1", 'set locker = "uv", or remove the source')
    assert "pip-tools does not know" in said


@pytest.mark.parametrize("fields", ['dependencies = ["Core>=1"]', 'dynamic = ["dependencies"]'])
def test_sources_of_packages_are_refused_for_pip_tools(fields):
    text = f'[project]\nname = "tk"\n{fields}\n[tool.uv.sources]\ncore = {{ workspace = true }}\n'
    package = {"libs/tk/pyproject.toml": text}
    assert problems("./libs/tk\n", **package) == []
    ((place, said, _),) = problems("./libs/tk\n", "pip-tools", **package)
    assert (place, said) == ("libs/tk/pyproject.toml", "pip-tools does not know it, and would take `core` of any index")
    other = {"libs/tk/pyproject.toml": text.replace(fields, 'dependencies = ["corelib"]')}
    assert problems("./libs/tk\n", "pip-tools", **other) == []
