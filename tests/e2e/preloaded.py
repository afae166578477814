"""All of the package and what its sessions import where they need it: imported once, for every session of `forked`."""

import gc
import importlib
import pkgutil

import buildkit

_MODULES = (
    "tests.e2e.forked",
    "tests.e2e.session",
    "isal.igzip",
    "isal.isal_zlib",
    "isal.igzip_lib",
    "tomlkit",
    "zstandard",
)

for module in pkgutil.walk_packages(buildkit.__path__, "buildkit."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
for name in _MODULES:
    importlib.import_module(name)
gc.freeze()  # a fork shares what is not touched
