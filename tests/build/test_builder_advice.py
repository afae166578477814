"""What to do when a package does not compile in the builder, by what pip printed."""

import pytest

from buildkit.build.builder_advice import advise_builder

BACKEND = """error: backend-unavailable

  × Cannot import build backend 'poetry.core.masonry.api'.
  ╰─> ModuleNotFoundError: No module named 'poetry'
"""
LEGACY = "  × Cannot import build backend 'setuptools.build_meta:__legacy__'.\n"
SETUP = """Traceback (most recent call last):
  File "<string>", line 2, in <module>
ModuleNotFoundError: No module named 'numpy'
error: metadata-generation-failed
"""
PIP = "/opt/venv/bin/python: No module named pip\n"


@pytest.mark.parametrize(
    ("output", "missing"),
    [
        (BACKEND, "build backend `poetry.core.masonry.api`"),
        (LEGACY, "build backend `setuptools.build_meta`"),
        (SETUP, "module `numpy`"),
        (PIP, "module `pip`"),
    ],
)
def test_what_the_builder_lacks_is_named_with_where_to_add_it(output: str, missing: str) -> None:
    assert advise_builder(output) == (
        f"the builder lacks the {missing}: add what has it, most often a package that [build-system] "
        "in pyproject.toml requires, to an input of the builder's stage, and run: nox -s lock"
    )


def test_other_failures_ask_for_build_system_and_pip() -> None:
    for output in ("error: command 'gcc' failed", "No module named '\x1b[31mevil'"):
        assert advise_builder(output).startswith("does the builder have its build system, and pip")
