"""Wheels of one namespace package may each bring its ``__init__.py``; anything more than a declaration collides."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from buildkit.errors import CollisionError
from buildkit.layers.tar.contents import NAMESPACE
from buildkit.layers.tar.listing import read_listing
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.namespace import MAX_SIZE, only_declares_namespace
from buildkit.layers.tar.writer import write_layer

TARFILE = b"__path__ = __import__('pkgutil').extend_path(__path__, __name__)  # type: ignore\n"
WEAKREF = b"# A Python namespace package\nfrom pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
GOOGLE = b"""\"\"\"Namespace.\"\"\"
try:
    import pkg_resources
    pkg_resources.declare_namespace(__name__)
except ImportError:
    import pkgutil
    __path__ = pkgutil.extend_path(__path__, __name__)
"""
OLD = b"__import__('pkg_resources').declare_namespace(__name__)\n"


@pytest.mark.parametrize("data", [TARFILE, WEAKREF, GOOGLE, OLD, b"from __future__ import annotations\npass\n" + OLD])
def test_declaration_of_a_namespace_is_known(data: bytes) -> None:
    assert only_declares_namespace("x/backports/__init__.py", data)
    assert not only_declares_namespace("x/backports/other.py", data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"# only a comment on extend_path\n", WEAKREF + b"VERSION = 1\n", WEAKREF + b"import os\n",
        b"from pkgutil import extend_path\n", b"__path__ = extend_path(__path__, 'x')\n", b"\0extend_path",
        b"extend_path(",
        OLD.replace(b"__name__", b"run()"), GOOGLE.replace(b"ImportError", b"Exception"),
        GOOGLE.replace(b"import pkgutil", b"import evil"),
    ],
)  # fmt: skip
def test_anything_more_than_a_declaration_is_not(data: bytes) -> None:
    assert not only_declares_namespace("x/backports/__init__.py", data)


def init(data: bytes, wheel: str) -> Member:
    return Member(path="site/backports/__init__.py", size=len(data), content=lambda: iter((data,)), wheel=wheel)


def test_first_of_several_declarations_is_packed() -> None:
    out = io.BytesIO()
    packed = write_layer([init(TARFILE, "a.whl"), init(WEAKREF, "b.whl")], out, Compression.NONE)
    assert packed.contents == (("site/backports/__init__.py", NAMESPACE),)
    assert TARFILE in out.getvalue()
    assert WEAKREF not in out.getvalue()
    assert read_listing([out.getvalue()], "x") == list(packed.contents)


def test_bytecode_beside_a_declaration_goes_with_it() -> None:
    pyc = "site/backports/__pycache__/__init__.cpython-313.pyc"
    members = [
        member
        for data, wheel in ((TARFILE, "a.whl"), (WEAKREF, "b.whl"))
        for member in (init(data, wheel), replace(init(data[:9], wheel), path=pyc))
    ]
    out = io.BytesIO()
    packed = write_layer(members, out, Compression.NONE)
    assert dict(packed.contents) == {"site/backports/__init__.py": NAMESPACE, pyc: NAMESPACE}
    assert read_listing([out.getvalue()], "x") == list(packed.contents)
    with pytest.raises(CollisionError, match="__pycache__"):
        write_layer(members[1::2], io.BytesIO(), Compression.NONE)


def test_declaration_collides_with_code() -> None:
    for other in (WEAKREF + b"x = 1\n", WEAKREF + b"#" * MAX_SIZE):
        with pytest.raises(CollisionError, match=r"a\.whl and b\.whl"):
            write_layer([init(TARFILE, "a.whl"), init(other, "b.whl")], io.BytesIO(), Compression.NONE)
