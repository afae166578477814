"""Namespace packages of before PEP 420: several distributions bring the same ``__init__.py``, in other words each.

pip and uv let the last one win, which is harmless where each only declares the namespace (PyPA packaging guide,
"Packaging namespace packages": pkgutil-style and pkg_resources-style).
"""

from __future__ import annotations

import ast

MAX_SIZE = 2048
"""Bytes up to which an ``__init__.py`` is looked at."""

_DECLARATIONS = {
    "__path__ = extend_path(__path__, __name__)",
    "__path__ = pkgutil.extend_path(__path__, __name__)",
    "__path__ = __import__('pkgutil').extend_path(__path__, __name__)",
    "__import__('pkg_resources').declare_namespace(__name__)",
    "pkg_resources.declare_namespace(__name__)",
}
_IMPORTS = {"import pkgutil", "import pkg_resources", "from pkgutil import extend_path"}
_HINTS = (b"extend_path", b"declare_namespace")


def only_declares_namespace(path: str, data: bytes) -> bool:
    """Return whether ``data`` is the ``__init__.py`` of a namespace package that does nothing else."""
    if not path.endswith("/__init__.py") or not any(hint in data for hint in _HINTS):
        return False
    try:
        body = ast.parse(data).body
    except (SyntaxError, ValueError, RecursionError):
        return False
    return _is_harmless(body) and any(
        ast.unparse(node) in _DECLARATIONS for top in body for node in ast.walk(top) if isinstance(node, ast.stmt)
    )


def find_module(path: str) -> str:
    """Return the path of the ``__init__.py`` whose bytecode is at ``path``; the empty string for any other path."""
    folder, _, name = path.rpartition("/__pycache__/")
    return f"{folder}/__init__.py" if folder and name.startswith("__init__.") and name.endswith(".pyc") else ""


def _is_harmless(body: list[ast.stmt]) -> bool:
    return all(map(_is_harmless_statement, body))


def _is_harmless_statement(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.ImportFrom(module="__future__"):
            return True
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
            blocks = (body, orelse, finalbody, *(handler.body for handler in handlers))
            return all(map(_is_harmless, blocks)) and all(map(_is_of_import, handlers))
        case _:
            return ast.unparse(node) in _DECLARATIONS | _IMPORTS


def _is_of_import(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in ("ImportError", "ModuleNotFoundError")
