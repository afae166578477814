"""The service's own tests in the hardened image, whose Python is trimmed to what the service imports."""

from __future__ import annotations

import pytest

from buildkit.declare.graph import load_graph
from buildkit.layers.globs import compile_excludes
from tests.reference.builds import ROOT
from tests.reference.conftest import Project
from tests.reference.engine import Podman
from tests.reference.tracing import LIST, Trace, render_list, trace_service

pytestmark = [pytest.mark.tools, pytest.mark.network]


@pytest.fixture(scope="module")
def trace(project: Project, podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    hardened, whole = project.images["hardened"], project.images["development"]
    return trace_service(podman, hardened, tmp_path_factory.mktemp("trace"), whole=whole)


def test_service_passes_its_tests_and_imports_nothing_that_was_trimmed(trace: Trace) -> None:
    assert len(trace.files()) > 150
    assert trace.borrowed() == {}, "remake the list: nox -s trim-hardened"


def test_list_is_what_the_service_was_seen_to_import(trace: Trace) -> None:
    assert render_list(trace) == LIST.read_text("utf-8"), "remake the list: nox -s trim-hardened"


def test_the_rest_of_python_is_left_out() -> None:
    debian = load_graph(ROOT).get("hardened").debian
    assert debian is not None
    excluded = compile_excludes(debian.exclude)
    for name in ("pdb.py", "__pycache__/pdb.cpython-313.pyc", "sqlite3/__init__.py", "venv/__main__.py", "ftplib.py"):
        assert excluded(f"usr/lib/python3.13/{name}")
    assert excluded("usr/lib/x86_64-linux-gnu/libsqlite3.so.0")
    assert not excluded("usr/lib/python3.13/__pycache__/socket.cpython-313.pyc")
    assert not excluded("usr/lib/aarch64-linux-gnu/libc.so.6")
