"""Python names that no description of a model needs: used to rate severity, never to trust."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """Split a text into a set of words."""
    return frozenset(text.split())


_MODULES = word_set(
    "builtins __builtin__ os posix nt sys subprocess commands pty shutil socket socketserver ssl http urllib requests "
    "httpx ftplib smtplib telnetlib importlib imp runpy code codeop ctypes cffi marshal pickle _pickle dill "
    "cloudpickle joblib shelve signal multiprocessing threading asyncio pathlib tempfile webbrowser antigravity pdb "
    "bdb timeit cProfile profile doctest trace distutils setuptools pip pkgutil zipimport inspect gc types functools "
    "operator itertools atexit site venv ensurepip torch.hub torch.utils.cpp_extension torch.serialization torch.load "
    "numpy.testing numpy.f2py IPython paramiko fabric"
)
_NAMES = word_set(
    "eval exec compile open __import__ getattr setattr delattr globals locals vars breakpoint input execfile system "
    "popen spawn check_output check_call run_path run_module get_file load_model load_weights model_from_json "
    "load_url"
)


def is_dangerous(module: str, name: str = "") -> bool:
    """Return whether a module, or a name of it, runs code, starts programs, or accesses files or networks."""
    parts = module.split(".")
    return name in _NAMES or any(".".join(parts[: count + 1]) in _MODULES for count in range(len(parts)))
