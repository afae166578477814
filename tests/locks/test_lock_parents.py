"""Parents of pins, from the comments of uv and pip-compile."""

from pathlib import Path

import pytest

from buildkit.locks.lock_parents import parse_parents, parse_via

ROOT = Path(__file__).parents[2]
UV = """\
# buildkit inputs sha256:00
anyio==4.16.0 \\
    --hash=sha256:aa
    # via
    #   starlette
    #   Fast_API
cffi==2.1.1 ; platform_python_implementation != 'PyPy' \\
    --hash=sha256:aa
    # via soundfile
fast-api[standard]==1.0 \\
    --hash=sha256:aa
    # via -r requirements/api.in
./libs/textkit
    # via
    #   -r requirements/api.in
    #   textapp (./libs/textapp)
# a comment that is none of them
lonely==1.0
"""


def test_parents_are_returned_by_name_without_inputs():
    assert parse_via(UV) == {
        "anyio": ("fast-api", "starlette"),
        "cffi": ("soundfile",),
        "fast-api": (),
        "./libs/textkit": ("textapp",),
        "lonely": (),
    }


def test_locks_of_this_repository_name_the_parents_of_every_pin():
    parents_of_all = []
    for path in ROOT.glob("requirements/*.txt"):
        text = path.read_text("utf-8")
        found = parse_via(text)
        assert len(found) == sum("==" in line and not line.startswith((" ", "#")) for line in text.splitlines())
        assert all(parent in found for parents in found.values() for parent in parents)
        parents_of_all += found.values()
    assert any(parents_of_all)  # a lock of its own may have nothing that anything else needs


OTHER_LOCKS = {
    "uv.lock": """
[[package]]
name = "App"
dependencies = [{ name = "alpha" }, { name = "beta", marker = "os_name == 'nt'" }, 3]
[package.optional-dependencies]
more = [{ name = "alpha" }, { name = "gamma" }]
[[package]]
name = "alpha"
dependencies = [{ name = "beta" }]
""",
    "poetry.lock": """
[[package]]
name = "App"
[package.dependencies]
alpha = "*"
beta = { version = "*", optional = true }
gamma = [{ version = "1" }, { version = "2" }]
[[package]]
name = "alpha"
[package.dependencies]
Beta = ">=1"
""",
    "pylock.toml": """
[[packages]]
name = "app"
dependencies = [{ name = "alpha" }, { name = "beta" }, { name = "gamma" }]
[[packages]]
name = "alpha"
dependencies = [{ name = "beta" }]
""",
}


@pytest.mark.parametrize("file", OTHER_LOCKS)
def test_parents_in_locks_of_other_tools(file):
    assert parse_parents(OTHER_LOCKS[file], file) == {"alpha": ("app",), "beta": ("alpha", "app"), "gamma": ("app",)}
    assert parse_parents("package = [1, { dependencies = 1, optional-dependencies = [] }]", file) == {}
