"""All of the package and what its sessions import where they need it: imported once, for every session of `forked`."""

import gc
import importlib
import pkgutil
from pathlib import Path

import buildkit
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project

_TINY = Path(__file__).parent / "tiny"

_MODULES = (
    "tests.e2e.forked",
    "tests.e2e.session",
    "isal.igzip",
    "isal.isal_zlib",
    "isal.igzip_lib",
    "tomlkit",
    "zstandard",
)

_ELSEWHERE = (".__main__", ".agent.sitecustomize", ".runner.model")  # other interpreters run these

try:
    for module in pkgutil.walk_packages(buildkit.__path__, "buildkit."):
        if not module.name.endswith(_ELSEWHERE):
            importlib.import_module(module.name)
    for name in _MODULES:
        importlib.import_module(name)
except ImportError as error:  # after which the server of forks would go on with what was imported so far
    raise RuntimeError(f"{error}: every session would have to import the rest") from error
load_project(_TINY)  # patterns and methods that are compiled when they are first needed
load_graph(_TINY)
gc.freeze()  # a fork shares what is not touched
