"""A recipe as text for people, as docs/decisions/001-keys-from-locks.md describes; unknown parts stay unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from buildkit.report.text import format_count

Recipe = Mapping[str, Any]


def describe_recipe(recipe: str) -> list[str]:
    """Return a recipe as lines: the first names what it makes, the others its parts."""
    parts: dict[str, Any] = json.loads(recipe)
    kind = parts.get("kind", "")
    lines = list(_WORDS[kind](parts)) if kind in _WORDS else [f"{kind or 'something'} of an unknown kind"]
    rest = sorted(parts.keys() - _KNOWN.get(kind, frozenset()) - {"kind", "format"})
    return [*lines, *(f"{key}: {_short(parts[key])}" for key in rest)]


def _root(r: Recipe) -> Iterator[str]:
    packages = format_count(len(r["packages"]), "package")
    yield f"a root of Debian {r['suite']} ({r['variant']}, {r['arch']}) with {packages}"
    yield from (f"  {package}" for package in r["packages"])
    yield from (f"user {name} ({uid}:{gid}), home {home}, shell {shell}" for name, uid, gid, home, shell in r["users"])
    yield from (f"without {pattern}" for pattern in r["exclude"])
    if r["drop_setuid"]:
        yield "no file is setuid or setgid"


def _image(r: Recipe) -> Iterator[str]:
    yield f"an image of a registry, for {r['arch']}"
    yield f"  {r['image']}"


def _containerfile(r: Recipe) -> Iterator[str]:
    lines, files = r["containerfile"].strip().splitlines(), format_count(len(r["context"]), "file")
    yield f"a Containerfile built {'with' if r['network'] else 'without'} network, of {files}, for {r['arch']}"
    yield from (f"  | {line}" for line in lines)
    yield from (f"on {name} (key {key[:12]})" for name, key in r["images"])
    yield from (f"with {name}={value}" for name, value in r["args"].items())


def _run(r: Recipe) -> Iterator[str]:
    yield f"a command run {'with' if r['network'] else 'without'} network on the root of key {r['parent'][:12]}"
    *start, script = r["command"]
    yield f"  {' '.join(start)}".rstrip()
    yield from (f"  | {line}" for line in script.strip().splitlines())
    yield from (f"with {name}={value}" for name, value in r["env"].items())
    for target, listing in r["mounts"]:
        yield f"with {format_count(len(listing), 'file')} of the repository at {target}"


def _python(r: Recipe) -> Iterator[str]:
    what = "the bytecode of Python" if r["bytecode"] else "Python"
    yield f"{what} {r['release']} of python-build-standalone at {r['folder']} (sha256 {r['archive'][:12]})"
    yield from (f"without {pattern}" for pattern in r["without"])


def _prefix(r: Recipe) -> Iterator[str]:
    yield f"an empty virtual environment {r['prefix']} of {r['interpreter']} (Python {r['python']})"


def _wheels(r: Recipe) -> Iterator[str]:
    compiled = "with bytecode" if r["bytecode"] else "without bytecode"
    yield f"wheels installed into {r['prefix']} for {r['interpreter']} (Python {r['python']}), {compiled}"
    for wheel in r["wheels"]:
        source = (
            f"compiled here as {wheel['compiled'][:12]}" if "compiled" in wheel else f"sha256 {wheel['sha256'][:12]}"
        )
        yield f"  {wheel['name']} {wheel['version']} ({source})"


def _compile(r: Recipe) -> Iterator[str]:
    tree = format_count(len(r["tree"]), "file") if "tree" in r else ""
    source = f"{tree} of the repository" if tree else f"its sdist, sha256 {r['sdist'][:12]}"
    yield f"a wheel of {r['name']}, compiled from {source}"
    yield from (f"with {name}={value}" for name, value in r["env"].items())


def _files(r: Recipe) -> Iterator[str]:
    yield f"{format_count(len(r['files']), 'file')} of the repository at {r['target']}"
    for path, mode, content in r["files"]:
        yield f"  {path}" + {"link": f" → {content}", "exec": " (executable)"}.get(mode, "")


def _model(r: Recipe) -> Iterator[str]:
    yield f"{format_count(len(r['files']), 'file')} of a model at {r['target']}"
    yield from (f"  {path} (sha256 {sha256[:12]})" for path, sha256 in r["files"])


_WORDS: Mapping[str, Callable[[Recipe], Iterator[str]]] = {
    "root": _root,
    "image": _image,
    "containerfile": _containerfile,
    "run": _run,
    "python": _python,
    "prefix": _prefix,
    "wheels": _wheels,
    "compile": _compile,
    "files": _files,
    "model": _model,
}
_KNOWN: Mapping[str, frozenset[str]] = {
    "root": frozenset({"suite", "variant", "arch", "packages", "users", "exclude", "drop_setuid"}),
    "image": frozenset({"image", "arch"}),
    "containerfile": frozenset({"containerfile", "context", "images", "arch", "args", "network"}),
    "run": frozenset({"parent", "command", "network", "env", "mounts"}),
    "python": frozenset({"folder", "release", "archive", "without", "bytecode"}),
    "prefix": frozenset({"prefix", "interpreter", "python"}),
    "wheels": frozenset({"prefix", "interpreter", "python", "bytecode", "wheels"}),
    "compile": frozenset({"name", "sdist", "tree", "builder", "env"}),
    "files": frozenset({"target", "files"}),
    "model": frozenset({"target", "files"}),
}


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
