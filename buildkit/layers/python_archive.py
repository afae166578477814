"""An archive of python-build-standalone as members of a layer.

Everything below ``python/`` (``python/install/`` in a "full" archive) goes below the folder of the image, in the order
of the archive, which the lock pins; owners, times and modes are the layer's. What no container needs stays out
(`EXCLUDE`). The build's own places and compilers are replaced in what sdists are compiled with, as uv does when it
installs such an archive (``uv-python``, ``sysconfig``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.layers.globs import compile_excludes
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import MAGIC_SIZE, Compression, Member
from buildkit.layers.tar.reader import TarHeader, TarReader
from buildkit.layers.wheel.bytecode import Compiler, compiled_members

EXCLUDE = (
    "bin/2to3*",
    "bin/idle3*",
    "bin/pip*",  # wheels are installed without it; a builder has pip in its lock
    "bin/pydoc3*",
    "bin/python3*-config",
    "lib/itcl*",
    "lib/libtcl*",
    "lib/libtk*",
    "lib/tcl*",
    "lib/tdbc*",
    "lib/thread*",
    "lib/tk*",
    "lib/python3*/config-3*",  # static library, Makefile: only for programs that embed Python
    "lib/python3*/ensurepip",
    "lib/python3*/idlelib",
    "lib/python3*/lib-dynload/_tkinter*",
    "lib/python3*/lib2to3",
    "lib/python3*/pydoc_data",
    "lib/python3*/site-packages/**",
    "lib/python3*/test",
    "lib/python3*/tkinter",
    "lib/python3*/turtle*",
    "share",  # manual pages and terminals: ncurses also looks in the root's /usr/share/terminfo
    "**/__pycache__",  # another interpreter may have compiled it; a layer of its own has bytecode
)
_SYSCONFIG = re.compile(r"lib/python3\.[0-9]+t?/_sysconfigdata_[^/]*\.py")
_PKGCONFIG = re.compile(r"lib/pkgconfig/[^/]*\.pc")
_BUILT = "/install"  # the prefix with which CPython is compiled there
_PROGRAMS = (
    (re.compile(r"(?:/\S+/)?(?:clang\+\+|(?:\w+-linux-gnu-)?g\+\+)"), "g++"),
    (re.compile(r"(?:/\S+/)?(?:clang|(?:\w+-linux-gnu-)?gcc)"), "gcc"),
    (re.compile(r"(?:/\S+/)?llvm-ar"), "ar"),
)
_ONLY_CLANGS = ("-fdebug-default-version=4",)
_LARGEST = 4 << 20  # bytes of a text that is changed


def python_members(archive: Path, minor: str, folder: str) -> Iterator[Member]:
    """Yield the files of ``archive``, which holds Python ``minor``, below ``folder`` (absolute in the image).

    Each member's content must be read before the next is taken. Raises BuildError for another layout.
    """
    name, program = archive.name, f"bin/python{minor}"
    head, excluded, found = f"{'python/install' if '-full.' in name else 'python'}/", compile_excludes(EXCLUDE), False
    with archive.open("rb") as file:
        compression = Compression.detect(file.read(MAGIC_SIZE))
    reader = TarReader(_explained(archive, compression), name)
    for header in reader:
        path = header.path.decode("utf-8", "replace")
        inside = path.removeprefix(head)
        if inside == path or excluded(inside) or header.fields["type"] == "folder":
            continue
        member = _member(header, inside, head, reader)
        found = found or (inside == program and member.kind == "file" and member.executable)
        yield _placed(member, folder)
    if not found:
        raise BuildError(
            f"{name}: holds no Python {minor} ({head}{program}), so it is no archive of python-build-standalone",
            hint="which list does UV_PYTHON_DOWNLOADS_JSON_URL name? after a change run: nox -s lock -- --upgrade",
        )


def bytecode_members(members: Iterable[Member], compiler: Compiler) -> Iterator[Member]:
    """Yield the bytecode of the modules among ``members`` alone; their sources, some 20 MB, are held in memory."""
    modules = [_held(member) for member in members if member.path.endswith(".py") and member.content]
    yield from (member for member in compiled_members(modules, compiler) if member.path.endswith(".pyc"))


def _held(member: Member) -> Member:
    data = b"".join(member.content()) if member.content else b""
    return replace(member, content=lambda: iter((data,)))


def _explained(archive: Path, compression: Compression) -> Iterator[bytes]:
    try:
        yield from inflate(archive, compression)
    except ValueError as error:
        raise BuildError(f"{archive.name}: cannot be unpacked: {error}") from None


def _member(header: TarHeader, path: str, head: str, reader: TarReader) -> Member:
    match header.fields["type"]:
        case "file":
            executable = bool(int(header.fields["mode"], 8) & 0o100)
            return Member(path=path, size=header.size, content=reader.content, executable=executable)
        case "symbolic link":
            return Member(path=path, kind="symlink", target=header.fields["link"])
        case "hard link" if (other := header.fields["link"]).startswith(head):
            return Member(path=path, kind="symlink", target=f"{'../' * path.count('/')}{other.removeprefix(head)}")
    raise BuildError(f"{head}{path}: a {header.fields['type']} in an archive of Python")


def _placed(member: Member, folder: str) -> Member:
    text, place = None, f"{folder.strip('/')}/{member.path}"
    if member.kind == "symlink":
        return Member(path=place, kind="symlink", target=member.target)
    if _SYSCONFIG.fullmatch(member.path):
        text = patch_sysconfig(_text(member), folder)
    elif _PKGCONFIG.fullmatch(member.path):
        text = _text(member).replace(f"={_BUILT}\n", f"={folder}\n")
    if text is None:
        return Member(path=place, size=member.size, content=member.content, executable=member.executable)
    data = text.encode()
    return Member(path=place, size=len(data), content=lambda: iter((data,)), executable=member.executable)


def _text(member: Member) -> str:
    if member.size > _LARGEST or member.content is None:
        raise BuildError(f"{member.path}: {member.size} bytes are too many for a text")
    return b"".join(member.content()).decode("utf-8", "replace")


def patch_sysconfig(text: str, folder: str) -> str:
    """Return the module of ``sysconfig``'s variables for a Python in ``folder``, with the compilers of Debian."""
    try:
        (assigned,) = (node for node in ast.parse(text).body if isinstance(node, ast.Assign))
        values = ast.literal_eval(assigned.value)
        lines = [f"    {key!r}: {_patched(value, folder)!r},\n" for key, value in sorted(values.items())]
    except (ValueError, SyntaxError, AttributeError, RecursionError) as error:
        raise BuildError(f"the variables of sysconfig cannot be read: {error}") from None
    return f"build_time_vars = {{\n{''.join(lines)}}}\n"


def _patched(value: object, folder: str) -> object:
    if not isinstance(value, str):
        return value
    return " ".join(_patch_word(word, folder) for word in value.split() if word not in _ONLY_CLANGS)


def _patch_word(word: str, folder: str) -> str:
    if word == _BUILT or word.startswith(f"{_BUILT}/"):
        return folder + word.removeprefix(_BUILT)
    return next((name for pattern, name in _PROGRAMS if pattern.fullmatch(word)), word)
