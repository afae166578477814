"""Fuzz targets: a function for each parser of foreign bytes, the errors it may raise, and valid seeds to mutate.

A target raises nothing but its ``errors``; the text of a BuildkitError must be harmless to print.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError, BuildkitError, DefinitionError

ROOT = Path(__file__).resolve().parents[2]
TARGETS: dict[str, Target] = {}
_SHORT = 3000  # bytes of a seed that is text


@dataclass(frozen=True, kw_only=True)
class Target:
    """``seeds`` are made on first use; ``kind`` selects how they are mutated (`mutate.mutated`)."""

    name: str
    run: Callable[[bytes], object]
    kind: str
    errors: tuple[type[Exception], ...]
    make_seeds: Callable[[], list[bytes]]

    @property
    def seeds(self) -> tuple[bytes, ...]:
        return _seeds(self.name)


@cache
def _seeds(name: str) -> tuple[bytes, ...]:
    return tuple(TARGETS[name].make_seeds())


def target(
    kind: str, seeds: Callable[[], list[bytes]], *errors: type[Exception]
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    def add(run: Callable[[bytes], object]) -> Callable[[bytes], object]:
        name = run.__name__.strip("_").replace("_", "-")
        TARGETS[name] = Target(name=name, run=run, kind=kind, errors=errors, make_seeds=seeds)
        return run

    return add


def files(*patterns: str) -> list[bytes]:
    """Return files of this repository, each cut to its first lines."""
    found = [path.read_text("utf-8") for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    assert found, patterns
    return [(text[:_SHORT].rpartition("\n")[0] + "\n").encode() for text in found]


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# -- committed files --------------------------------------------------------------------------------------------------


@target("text", partial(files, "stages/*/stage.toml"), DefinitionError)
def stage(data: bytes) -> None:
    from buildkit.declare.graph import make_graph
    from buildkit.declare.stage_file import parse_stage

    make_graph({"x": parse_stage(as_text(data), name="x", file="stages/x/stage.toml")}).resolve("x")


def _settings() -> list[bytes]:
    more = b'name = "x"\nlabels = { "a.b" = "c" }\nheavy = 5\nbytecode = true\nbins = 4\n'
    return [b'[project]\nname = "y"\n[tool.buildkit]\n' + more, *files("tests/e2e/tiny/pyproject.toml")]


@target("text", _settings, DefinitionError)
def settings(data: bytes) -> None:
    from buildkit.declare.project import parse_project

    parse_project(as_text(data), Path("/nowhere"))


def _requirements() -> list[bytes]:
    lines = (
        'a==1 ; python_version >= "3.8" and (os_name == "posix" or extra == "y")',
        'b[c]==2.0 \\\n    --hash=sha256:' + "0" * 64,
        "-e ./libs/x", "    # via", "    #   a", "d===3", "e @ https://x/y.whl",
        f"f[g] @ git+ssh://git@[::1]:22/x.git@{'a' * 40}#subdirectory=y ; os_name == 'z'",
        "h @ https://x/h-1.0-py3-none-any.whl --hash=sha256:" + "1" * 64,
    )  # fmt: skip
    return [("\n".join(lines) + "\n").encode(), *files("requirements/*.txt", "requirements/*.in")]


@target("text", _requirements, DefinitionError)
def requirements(data: bytes) -> None:
    from buildkit.declare.target import Target as Fits
    from buildkit.locks.lock_parents import parse_via
    from buildkit.locks.requirement_inputs import normalise_text
    from buildkit.locks.requirements_txt import applicable, parse_requirements

    normalise_text(as_text(data))
    parse_via(as_text(data))
    pins = parse_requirements(as_text(data), "x.txt", describe_local=lambda path: ("local", "1"))
    applicable(pins, Fits(python="3.13", glibc="2.41", arch="x86_64"))


def _wheels_locks() -> list[bytes]:
    whole = files("requirements/*.wheels.toml")
    entry = f'[[artifact]]\nname = "k"\nversion = ""\nfile = "k.tar"\nsha256 = "{"0" * 64}"\nsize = 1\nunseen = true\n'
    place = f'place = "git+https://h.example/k@{"a" * 40}#subdirectory=x"\n'
    return [*whole, whole[0] + entry.encode() + place.encode()]


@target("text", _wheels_locks, DefinitionError)
def wheels_lock(data: bytes) -> None:
    from buildkit.locks.wheels_lock import parse_wheels_lock, render_wheels_lock

    parsed = parse_wheels_lock(as_text(data), "x.wheels.toml")
    render_wheels_lock(parsed)
    assert all(one.git is None or one.git.commit for one in parsed.artifacts)


def _images_locks() -> list[bytes]:
    from buildkit.digest import Digest
    from buildkit.locks.images_lock import ImageContents, LockedImage, render_images_lock

    digest, python = Digest("0" * 64), {"usr/lib/python3/dist-packages": {"torch": "2.5.0+x"}}
    image = LockedImage(
        name="h.example/x:1",
        digest=digest,
        locked="2026-11-29T21:00:00Z",
        platforms={"linux/amd64": digest, "linux/arm64/v8": digest},
        contents={"amd64": ImageContents(id="debian", codename="trixie", packages={"apt": "3"}, python=python)},
    )
    text = render_images_lock({image.name: image})
    return [text.encode(), text.replace("trixie", "bookworm").encode()]


@target("text", _images_locks, DefinitionError)
def images_lock(data: bytes) -> None:
    from buildkit.locks.images_lock import parse_images_lock, render_images_lock

    parsed = parse_images_lock(as_text(data))
    rendered = parse_images_lock(render_images_lock(parsed))
    assert rendered == {name: replace(image, altered=()) for name, image in parsed.items()}
    for image in parsed.values():
        assert str(image.digest) in image.pinned("amd64").pinned
        assert not image.contents.keys() & set(image.altered)


@target("text", partial(files, "requirements/*.apt", "requirements/*.apt.lock"), DefinitionError)
def apt(data: bytes) -> None:
    from buildkit.locks.apt_lock import parse_apt_list, parse_apt_lock

    try:
        parse_apt_list(as_text(data), "x.apt")
    except DefinitionError as error:
        harmless(error)
    parse_apt_lock(as_text(data), "x.apt.lock")


@target("text", partial(files, "requirements/models.toml"), DefinitionError)
def models(data: bytes) -> None:
    from buildkit.locks.models_lock import parse_models_file, request_hash

    for request in parse_models_file(as_text(data), "models.toml").models:
        request_hash(request)


@target("text", partial(files, "requirements/models.lock"), DefinitionError)
def models_lock(data: bytes) -> None:
    from buildkit.locks.models_lock import parse_models_lock, render_models_lock

    render_models_lock(parse_models_lock(as_text(data), "models.lock"))


def _allows() -> list[bytes]:
    entry = '[[global]]\nname = "a.b"\nreason = "known"\n[[accept]]\nrule = "x-y"\nsha256 = "%s"\nreason = "seen"\n'
    entry += '[[accept-in-wheel]]\nrule = "x-y"\ndistribution = "demo"\npath = "demo/*"\nreason = "seen"\n'
    return [(entry % ("a" * 64)).encode()]


@target("text", _allows, DefinitionError)
def allow_file(data: bytes) -> None:
    from buildkit.declare.model_allowlist import parse_allowlist

    parse_allowlist(as_text(data), "models.allow.toml")


@target("text", lambda: [b"# x\n/srv/a\nimport os; x = 1\n"])
def path_file(data: bytes) -> None:
    from buildkit.scan.wheels.startup import check_path_file

    list(check_path_file("demo", "demo.pth", data))


@target("text", lambda: [b"# a\n*.pyc\n!keep.pyc\n/x/**/y\n[a-z]?\n"], DefinitionError)
def ignore_file(data: bytes) -> None:
    from buildkit.declare.containerignore import parse_ignore_file

    is_ignored = parse_ignore_file(as_text(data), ".containerignore")
    is_ignored("a/b/x/y.pyc")


@target("text", lambda: [b'[project]\nname = "x"\nversion = "1"\n'], DefinitionError)
def local_package(data: bytes) -> None:
    from buildkit.locks.local_package import make_describe_local

    make_describe_local(lambda path: as_text(data))("./libs/x")


@target(
    "text", lambda: [b"ghcr.io/me/app:1.0", b"localhost:5000/a/b_c@sha256:" + b"0" * 64, b"[::1]:5/x"], DefinitionError
)
def image_ref(data: bytes) -> None:
    from buildkit.oci.reference import parse_ref

    parse_ref(as_text(data).rstrip("\n"), "the image")


# -- wheels and layers ------------------------------------------------------------------------------------------------


def _wheels() -> list[bytes]:
    from tests.layers.wheelmaker import DATA, INFO, make_wheel

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        modules = {"demo_pkg/__init__.py": b"x = 1\n", "demo_pkg/lib.so": b"\x7fELF" + bytes(80)}
        modules |= {"demo.pth": b"import x\n", "demo_pkg/a.pkl": pickle.dumps([1, "a"]), "demo_pkg/b.dat": b"\x80\x04."}
        scripts = {
            f"{INFO}/entry_points.txt": b"[console_scripts]\ndemo = demo_pkg:main\n",
            f"{DATA}/scripts/d": b"#!python\n",
        }
        return [
            make_wheel(place, modules).read_bytes(),
            make_wheel(place, modules | scripts | {f"{DATA}/data/share/x": b"y" * 3000}).read_bytes(),
        ]


@target("bytes", _wheels, BuildError)
def wheel(data: bytes) -> None:
    _pack(data)


@target("bytes", _wheels, BuildError)
def scanned_wheel(data: bytes) -> None:
    from buildkit.scan import scan_wheel
    from tests.layers.wheelmaker import NAME, VERSION

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{NAME}-{VERSION}-py3-none-any.whl"
        path.write_bytes(data)
        scan_wheel(path, frozenset())


def _members() -> list[bytes]:
    """Wheels as JSON, path to text, from which a well-formed archive is built."""
    from tests.layers.wheelmaker import INFO, METADATA, WHEEL

    rows = f"demo_pkg/__init__.py,,\n{INFO}/RECORD,,\n{INFO}/WHEEL,,\n{INFO}/METADATA,,\n{INFO}/entry_points.txt,,\n"
    made = {
        "demo_pkg/__init__.py": "x = 1\n", f"{INFO}/METADATA": METADATA, f"{INFO}/WHEEL": WHEEL, f"{INFO}/RECORD": rows,
        f"{INFO}/entry_points.txt": "[console_scripts]\ndemo = demo_pkg:main\n",
    }  # fmt: skip
    return [json.dumps(list(made.items())).encode()]


@target("json", _members, BuildError)
def wheel_members(data: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in _pairs(data):
            entry = zipfile.ZipInfo("x")
            entry.filename = name.encode("utf-8", "replace").decode()
            archive.writestr(entry, content.encode("utf-8", "surrogatepass"))
    _pack(out.getvalue())


def _pairs(data: bytes) -> list[tuple[str, str]]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return []
    rows = value if isinstance(value, list) else []
    return list({str(row[0]): str(row[1]) for row in rows if isinstance(row, list) and len(row) == 2}.items())


@target("text", lambda: [b"demo_pkg/__init__.py,,\ndemo_pkg-1.0.dist-info/RECORD,,\n", b"x,sha256=abc,1\n"], BuildError)
def wheel_record(data: bytes) -> None:
    _from_parts(RECORD=as_text(data))


@target("text", lambda: [b"Metadata-Version: 2.1\nName: demo-pkg\nVersion: 1.0\nLicense: MIT\n\nWords.\n"], BuildError)
def wheel_metadata(data: bytes) -> None:
    from buildkit.supply.licences import licence_of_metadata, parse_metadata

    licence_of_metadata(parse_metadata(as_text(data)))
    _from_parts(METADATA=as_text(data))


@target("text", lambda: [b"[console_scripts]\ndemo = demo_pkg:main\n[gui_scripts]\na = b.c:d.e [x]\n"], BuildError)
def wheel_entry_points(data: bytes) -> None:
    _from_parts(**{"entry_points.txt": as_text(data)})


@target("text", lambda: [b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"], BuildError)
def wheel_file(data: bytes) -> None:
    _from_parts(WHEEL=as_text(data))


def _from_parts(**texts: str) -> None:
    from tests.layers.wheelmaker import make_wheel

    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        _write_wheel(make_wheel(Path(folder), {"demo_pkg/__init__.py": b"x = 1\n"}, **texts))


def _pack(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder, "demo_pkg-1.0-py3-none-any.whl")
        path.write_bytes(data)
        _write_wheel(path)


def _write_wheel(path: Path) -> None:
    from buildkit.declare.target import Target as Fits
    from buildkit.layers.tar.member import Compression
    from buildkit.layers.tar.writer import write_layer
    from buildkit.layers.wheel.layer import wheel_members as members

    out = io.BytesIO()
    write_layer(members(path, Fits(python="3.13", glibc="2.41", arch="x86_64")), out, Compression.NONE)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = tar.getnames()
    assert all(f"{name}/".startswith(("opt/", "opt/venv/")) and ".." not in name.split("/") for name in names), names


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _tars() -> list[bytes]:
    from tests.audit.crafted import GOOD, capable, file, folder, link, tar

    status = b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nSource: b (2)\n\nPackage: c\n"
    legal = b"Format: https://www.debian.org/doc/copyright-format/1.0/\n\nFiles: *\nLicense: MIT or GPL-2+\n"
    debian = (
        file("var/lib/dpkg/status", status), file("usr/share/doc/a/copyright", legal),
        file("etc/os-release", b'ID=debian\nVERSION_CODENAME="trixie"\n'), file(".wh.gone"), file("d/.wh..wh..opq"),
        file("opt/x-1.dist-info/METADATA", b"Name: x\nVersion: 1\nLicense: MIT\n"), file("lib/libx.so.1", _elf()),
    )  # fmt: skip
    return [
        tar(GOOD), tar(debian),
        tar((*GOOD[:3], capable("x", 13), link("a/b", "../c"), file("n" * 300, b"x"), folder("d"))),
    ]  # fmt: skip


def with_checksums(data: bytes) -> bytes:
    """Return the tar with its checksums corrected, so that its headers are accepted."""
    found = bytearray(data)
    for at in range(0, len(found) - 511, 512):
        if found[at + 257 : at + 262] == b"ustar":
            found[at + 148 : at + 156] = b" " * 8
            found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


@target("bytes", _tars, BuildError)
def root_tar(data: bytes) -> None:
    from buildkit.layers.root.pack import RootRules, pack_root
    from buildkit.layers.tar.member import Compression

    for content in (data, with_checksums(data)):
        out = io.BytesIO()
        ours(lambda content=content, out=out: pack_root(_chunks(content), RootRules(), out, Compression.NONE))


def _layers() -> list[bytes]:
    from tests.imagestore.tars import entry, folder, make_sparse_tar, make_tar

    link, hard = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}
    members = (
        folder("a"), entry("a/x", b"1" * 600, mode=0o4755), entry("l", linkname="a", **link), entry("l/y", b"2"),
        entry("up", linkname="../..", **link), entry("up/z", b"3"), entry("h", linkname="a/x", **hard), folder("../d"),
        entry("a/.wh..wh..opq"), entry(".wh.gone"), entry("é" * 60, b"4", pax_headers={"SCHILY.xattr.user.x": "5"}),
    )  # fmt: skip
    good = [*members[:7], *members[8:]]
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
    return [*(make_tar(*good, form=form) for form in forms), make_tar(*members), *map(make_sparse_tar, ("gnu", "1.0"))]


@target("bytes", _layers, BuildError)
def layer_tree(data: bytes) -> None:
    """A tree is made within its folder or not at all, and is the tar again."""
    from buildkit.imagestore.tree_check import find_alteration
    from buildkit.imagestore.tree_maker import TAR_SPLIT, TREE, TreeMaker
    from buildkit.imagestore.tree_reader import read_tree

    for content in (data, with_checksums(data)):
        with tempfile.TemporaryDirectory(dir=_memory()) as name:
            folder = Path(name) / "only"
            folder.mkdir()

            def make(folder: Path = folder, content: bytes = content) -> None:
                with TreeMaker(folder, owners=False, rootless=True) as maker:
                    for at in range(0, len(content), 700):
                        maker.write(content[at : at + 700])
                    maker.finish()
                tree = (folder / TREE).rename(folder / hashlib.sha256(content).hexdigest())
                assert b"".join(read_tree(tree, folder / TAR_SPLIT)) == content
                assert find_alteration(tree, folder / TAR_SPLIT) == ""

            ours(make)
            assert [path.name for path in Path(name).iterdir()] == ["only"]
            for path in folder.rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)


@target("bytes", _tars, BuildError)
def layer_inside(data: bytes) -> None:
    from buildkit.layers.root.installed import InstalledPackages
    from buildkit.supply.licences import licence_of_copyright, licence_of_metadata, parse_metadata

    for content in (data, with_checksums(data)):
        inside = InstalledPackages()
        ours(lambda content=content, inside=inside: inside.add(_chunks(content), "the layer x"))
        for deb in inside.debs:
            licence_of_copyright(inside.copyright(deb.name) or "")
        for text, _ in inside.python.values():
            licence_of_metadata(parse_metadata(text))
        _ = inside.release


@target("bytes", _tars, BuildError)
def layer_audit(data: bytes) -> None:
    from buildkit.audit.audit import check_image
    from tests.audit.crafted import make_view

    for content in (data, with_checksums(data)):
        ours(lambda content=content: check_findings(check_image(make_view(content))))


@target("bytes", _tars, BuildError)
def layer_compare(data: bytes) -> None:
    from buildkit.layers.tar.compare import compare_tars

    first = with_checksums(data)
    compare_tars(lambda: iter((first,)), lambda: iter((_seeds("layer-compare")[0],)))


@target(
    "text", lambda: [b"Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\n\nPackage: c\n"], BuildError
)
def dpkg(data: bytes) -> None:
    from buildkit.layers.root.dpkg import parse_packages, verify_packages

    verify_packages(parse_packages([data]), ())


@target(
    "text", lambda: [b"Format: x copyright-format/1.0\n\nFiles: *\nLicense: MIT or GPL-2+ and BSD-3-clause\n word\n"]
)
def copyright_file(data: bytes) -> None:
    from buildkit.supply.licences import licence_of_copyright

    licence_of_copyright(as_text(data))


@target("text", lambda: [b"root:x:0:0:root:/root:/bin/sh\nml:x:1000:1000::/home/ml:/bin/sh\n"], BuildError)
def accounts(data: bytes) -> None:
    from buildkit.declare.stage import User
    from buildkit.layers.root.accounts import add_users

    texts = dict.fromkeys(("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"), as_text(data))
    add_users(texts, (User(name="ml", uid=1000, gid=1000, home="/home/ml"),))


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + 1000] for at in range(0, len(data), 1000)]


# -- native files -----------------------------------------------------------------------------------------------------


def _elf(**more: Any) -> bytes:
    from tests.native.elfmaker import make_elf

    return make_elf(
        needed=("libc.so.6",), needs=(("libc.so.6", ("GLIBC_2.17",)),), runpath="$ORIGIN", soname="x.so", **more
    )


@target("bytes", lambda: [_elf(), _elf(big=True, bits=32), _elf(interpreter="/lib/ld.so", kind=2)])
def elf(data: bytes) -> None:
    from buildkit.native.elf import ElfError, parse_elf
    from buildkit.native.elf_stream import ElfStream

    passing = ElfStream(5000)
    for read in (lambda: parse_elf(lambda at, count: data[max(at, 0) : max(at, 0) + count]), passing.finish):
        if read == passing.finish:
            for chunk in _chunks(data):
                passing.add(chunk)
        with suppress(ElfError):
            read()


def _facts() -> list[bytes]:
    import zlib

    from buildkit.native.elf import parse_elf
    from buildkit.native.facts import NativeFacts, encode_facts

    content = _elf()
    made = parse_elf(lambda at, count: content[at : at + count])
    facts = NativeFacts(
        files={"a/x.so": made},
        links={"b": "a/x.so"},
        texts={"etc/ld.so.conf": "/a\n"},
        unread={"c": "no"},
        gone=("d/",),
    )
    return [zlib.decompress(encode_facts(facts))]


@target("json", _facts)
def native_facts(data: bytes) -> None:
    """Native facts as a remote cache returns them."""
    import zlib

    from buildkit.native.check import check_native
    from buildkit.native.facts import decode_facts, encode_facts, merge_layers

    decode_facts(data)
    facts = decode_facts(zlib.compress(data))
    if facts is not None:
        encode_facts(facts)
        check_native(merge_layers([("layer", facts)]), {})


# -- registry responses -----------------------------------------------------------------------------------------------


def _images() -> list[bytes]:
    from buildkit.digest import Digest

    digest = str(Digest.of(b"x"))
    config = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created_by": "x"}],
        "config": {
            "Env": ["A=b"], "Labels": {"org.opencontainers.image.title": "p/x"}, "Cmd": ["x"], "User": "1",
            "ExposedPorts": {"1/tcp": {}}, "Healthcheck": {"Test": ["CMD", "x"]},
        },
    }  # fmt: skip
    manifest = {"schemaVersion": 2, "config": {"digest": digest, "size": 1}, "layers": [{"digest": digest, "size": 1}]}
    return [json.dumps([manifest, config]).encode()]


@target("json", _images, BuildkitError)
def image(data: bytes) -> None:
    """A pair of manifest and config as a registry returns them; digests match the bytes where possible."""
    from buildkit.audit.audit import check_image
    from buildkit.audit.config import parse_config
    from buildkit.audit.view import ImageView
    from buildkit.digest import Digest
    from buildkit.inspection import verify_image as verify
    from buildkit.oci.reference import parse_ref

    manifest, config = _split(data)
    manifest = manifest.replace(str(Digest.of(b"x")).encode(), str(Digest.of(config)).encode(), 1)

    class Answers:
        def manifest(self, ref: object) -> bytes:
            return manifest

        def config(self, ref: object) -> bytes:
            return config

    def read() -> None:
        verify.read_image(parse_ref("localhost:5000/x", "x"), Answers())  # type: ignore[arg-type]

    ours(read)
    _layout(manifest, config)
    check_findings(check_image(ImageView(name="x", config=parse_config(config, "x"), layers=())))


def _model_manifests() -> list[bytes]:
    from buildkit.digest import Digest
    from buildkit.oci.model_artifact import render_model_artifact

    ours_, _ = render_model_artifact(
        "m", "1", "MIT", [("a/w.bin", Digest("0" * 64), 1), ("README.md", Digest("1" * 64), 2)]
    )
    return [ours_, ours_.replace(b"cncf.model.weight.v1.raw", b"docker.ai.gguf.v3").replace(b"org.cncf", b"x")]


@target("json", _model_manifests)
def model_manifest(data: bytes) -> None:
    """The manifest of a model in a registry, and the places that a lock has of its files."""
    from buildkit.digest import FileHash
    from buildkit.hostile_json import MalformedError
    from buildkit.locks.model_source import ArtifactPlace, parse_artifact_place
    from buildkit.oci.model_artifact import UnknownPartError, parse_model_manifest

    with suppress(MalformedError, UnknownPartError):
        for part in parse_model_manifest(data):
            ref = f"localhost/x@sha256:{'0' * 64}"
            place = ArtifactPlace(ref=ref, blob=FileHash(part.digest.hex), size=part.size, member=part.path)
            assert parse_artifact_place(str(place)) == place


@target("json", lambda: [b'{"token":"a","expires_in":300}', b'{"errors":[{"code":"DENIED","message":"no"}]}'])
def registry_answer(data: bytes) -> None:
    """A token, or a refusal, as a registry and its token service write them."""
    from buildkit.hostile_json import MalformedError
    from buildkit.tools.distribution.connections import HttpResponse, RegistryOrigin
    from buildkit.tools.distribution.session import failure_of
    from buildkit.tools.distribution.tokens import read_token

    response = HttpResponse(origin=RegistryOrigin("https", "a", 443), status=403, headers={}, body=data)
    message = str(failure_of(response))
    assert message.isprintable()
    assert len(message) <= 300
    with suppress(MalformedError):
        assert read_token(response).header.isprintable()


@target(
    "text", lambda: [b'Bearer realm="https://a.example/t?x=1",service="s",scope="repository:a:pull"', b"Basic realm=a"]
)
def registry_challenge(data: bytes) -> None:
    """What a registry asks for, and where it sends the log-in."""
    from buildkit.tools.distribution.logins import RegistryLogin
    from buildkit.tools.distribution.tokens import parse_challenge, token_request

    challenge = parse_challenge(as_text(data))
    with suppress(ValueError):
        if challenge:
            login = RegistryLogin(user="u", password="p")
            assert token_request(challenge, login, ("repository:a:pull",)).origin.scheme in ("http", "https")


def _split(data: bytes) -> tuple[bytes, bytes]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data, data
    if isinstance(value, list) and len(value) == 2:
        return json.dumps(value[0]).encode(), json.dumps(value[1]).encode()
    return data, data


def _layout(manifest: bytes, config: bytes) -> None:
    from buildkit.audit.view import ImageOrigin
    from buildkit.build.image_sources import read_layout
    from buildkit.digest import Digest
    from buildkit.locks.pins import PinnedImage
    from buildkit.remote.image_pull import pull_image
    from buildkit.store.blobs import Blobs

    def give(_ref: str, folder: Path, _arch: str, _arriving: object = None) -> None:
        (folder / "manifest.json").write_bytes(manifest)
        (folder / Digest.of(config).hex).write_bytes(config)

    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        place = Path(folder, "layout")
        place.mkdir()
        give("", place, "")
        ours(lambda: read_layout(place, "x", ImageOrigin()))
        image = PinnedImage(ref="localhost:5000/x", pinned="x")
        ours(lambda: pull_image(image, "amd64", give, Blobs(Path(folder, "blobs"))))


def _attached() -> list[bytes]:
    from buildkit.remote.artifact import ArtifactPart, encode_artifact, encode_cosign, encode_index

    part = ArtifactPart.of("application/vnd.in-toto+json", b"{}", {"in-toto.io/predicate-type": "x"})
    artifact = encode_artifact("application/vnd.in-toto+json", [part], part, {"a": "b"})
    return [artifact, encode_index((), (), [part.as_json()]), encode_cosign([part])[0]]


def _indexed() -> list[bytes]:
    from buildkit.digest import Digest
    from buildkit.oci.image_index import IndexedImage, render_image_index

    images = [IndexedImage(arch=arch, digest=Digest.of(arch.encode()), size=9) for arch in ("amd64", "arm64")]
    return [render_image_index(images), render_image_index(images[:1])]


@target("json", _indexed, BuildError)
def indexed(data: bytes) -> None:
    from buildkit.hostile_json import MalformedError
    from buildkit.oci.image_index import parse_image_index, render_image_index

    try:
        images = parse_image_index(data)
    except MalformedError as error:
        harmless(error)
    else:
        assert render_image_index(images) == data
        assert len({image.arch for image in images}) == len(images)


@target("json", _attached)
def attached(data: bytes) -> None:
    from buildkit.hostile_json import MalformedError
    from buildkit.remote.artifact import decode_artifact, decode_index, describe, encode_index

    for read in (decode_artifact, partial(describe, kind=True), lambda data: encode_index(decode_index(data), (), ())):
        try:
            read(data)
        except MalformedError as error:
            harmless(error)


def _entries() -> list[bytes]:
    from buildkit.digest import DiffId, Digest, Key
    from buildkit.layers.tar.member import Compression
    from buildkit.layers.tar.toc import Toc
    from buildkit.native import NOTHING
    from buildkit.oci.blob import Blob, LayerResult
    from buildkit.remote.cache_record import CacheRecord, encode_record
    from buildkit.remote.stage_index import encode_stage_index

    blob = Blob(digest=Digest.of(b"a"), diff_id=DiffId.of(b"b"), size=1, unpacked=2, compression=Compression.ZSTD)
    toc = Toc.parse(f"{'c' * 64}:1:2:3:4:5:6")
    parts = replace(blob, compression=Compression.CHUNKED, toc=toc)
    result = LayerResult(blobs=(blob, parts), seconds=1.5, config='{"Env":["A=b"]}')
    record = CacheRecord(
        key=Key.of(b"k"),
        kind="wheels",
        name="numpy",
        result=result,
        path_prefixes=("opt/venv",),
        native_facts=(NOTHING, NOTHING),
    )
    return [encode_record(record, b"{}"), encode_stage_index([record, record])]


@target("json", _entries)
def cache_entry(data: bytes) -> None:
    _decode_entries(data)


def _described() -> list[bytes]:
    import base64
    import zlib

    return [
        zlib.decompress(base64.b64decode(json.loads(one)["annotations"]["io.xoe.buildkit.layers"]))
        for one in _entries()
    ]


@target("json", _described)
def cache_roster(data: bytes) -> None:
    """The compressed content of one of its annotations."""
    import base64
    import zlib

    value = json.loads(_entries()[1])
    value["annotations"]["io.xoe.buildkit.layers"] = base64.b64encode(zlib.compress(data)).decode()
    _decode_entries(json.dumps(value).encode())


def _decode_entries(data: bytes) -> None:
    from buildkit.hostile_json import MalformedError
    from buildkit.layers.path_prefixes import find_overlaps
    from buildkit.remote.cache_record import decode_record, encode_record
    from buildkit.remote.stage_index import decode_stage_index, encode_stage_index

    try:
        encode_record(decode_record(data), b"{}")
    except MalformedError as error:
        harmless(error)
    try:
        index = decode_stage_index(data)
    except MalformedError as error:
        harmless(error)
        return
    encode_stage_index(index.records.values(), index.facts)
    find_overlaps({key: record.path_prefixes for key, record in index.records.items()})


def _natives() -> list[bytes]:
    import zlib

    from buildkit.digest import Digest
    from buildkit.native import NOTHING
    from buildkit.remote.stage_index import encode_stage_facts

    one, two, three = (Digest(digit * 64) for digit in "123")
    return [zlib.decompress(encode_stage_facts({one: b"facts", two: NOTHING}, (one, two, three)) or b"")]


@target("json", _natives)
def cache_natives(data: bytes) -> None:
    import zlib

    from buildkit.digest import Digest
    from buildkit.hostile_json import MalformedError
    from buildkit.remote.stage_index import decode_stage_facts, encode_stage_facts

    digests = [Digest(digit * 64) for digit in "123"]
    for packed in (data, zlib.compress(data)):
        try:
            encode_stage_facts(decode_stage_facts(packed, digests), digests)
        except MalformedError as error:
            harmless(error)


@target("bytes", lambda: [b'["opt/a","%s"]\n["opt/b","-> a"]\n' % (b"0" * 64)])
def cache_listing(data: bytes) -> None:
    import zlib

    from buildkit.hostile_json import MalformedError
    from buildkit.remote.listing import decode_listing

    for packed in (data, zlib.compress(data)):
        try:
            decode_listing(packed)
        except MalformedError as error:
            harmless(error)


def _statements() -> list[bytes]:
    from buildkit.digest import Digest
    from buildkit.supply.statement import (
        PROVENANCE,
        STATEMENT_TYPE,
        Envelope,
        Statement,
        render_envelope,
        render_statement,
    )

    rendered = render_statement(
        Statement(subjects=(("x", Digest.of(b"x")),), predicate_type=PROVENANCE, predicate={"a": [1]})
    )
    return [rendered, render_envelope(Envelope(payload_type=STATEMENT_TYPE, payload=rendered, signatures=(b"1",)))]


@target("json", _statements)
def statement(data: bytes) -> None:
    from buildkit.hostile_json import MalformedError
    from buildkit.supply.statement import parse_envelope, parse_statement

    for parse in (lambda: parse_statement(data), lambda: parse_envelope(data).signed):
        try:
            parse()
        except MalformedError as error:
            harmless(error)


@cache
def _agreement() -> tuple[Any, ...]:
    from buildkit.supply.collect import SbomInputs, collect
    from tests.plan.planfakes import composer
    from tests.supply.test_provenance import made_of

    runtime = composer().compose("runtime")
    made = made_of(runtime)
    bill = collect(runtime, SbomInputs(image="x/runtime", version="1", arch="amd64", maker="1", results=made))
    layers = [(blob.digest, blob.diff_id) for one in made.values() for blob in one.blobs]
    return runtime, composer().builder.specs, bill, layers


def _predicates() -> list[bytes]:
    from buildkit.supply.cyclonedx import render_cyclonedx
    from tests.supply.test_provenance import predicate

    runtime, tools, bill, _ = _agreement()
    return [render_cyclonedx(bill), json.dumps(predicate(runtime, tools)).encode()]


@target("json", _predicates)
def agreement(data: bytes) -> None:
    """Predicates of parsed statements."""
    from buildkit.supply.sbom_agreement import check_cyclonedx, check_provenance

    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        runtime, tools, bill, layers = _agreement()
        printable(check_provenance(value, runtime, tools, layers))
        printable(check_cyclonedx(value, bill, runtime, layers))


def _advisories() -> list[bytes]:
    one = {
        "id": "PYSEC-1", "display_id": "CVE-2026-1", "aliases": ["GHSA-x"],
        "summary": "bad", "fix_versions": ["2"], "link": "https://x",
        "dependency": {"name": "a", "version": "1"},
    }  # fmt: skip
    answer = {
        "vulnerabilities": [one],
        "summary": {"audited_packages": 1},
        "adverse_statuses": [{"name": "b", "status": "archived"}],
    }
    return [json.dumps(answer).encode()]


@target("json", _advisories, BuildError)
def advisories(data: bytes) -> None:
    from buildkit.tools.auditor import parse_answer
    from buildkit.tools.process import CommandResult

    parse_answer(CommandResult(code=1, stdout=data, stderr=b"error: " + data), 1)


# -- model files ------------------------------------------------------------------------------------------------------


def _pickles() -> list[bytes]:
    from tests.scan.test_pickle_fuzz import SAMPLES

    shown = {"a": [1, "x", b"y", 2.5], "b": {1, 2}, "c": ("d", None, 1 << 70)}
    return [*(pickle.dumps(shown, protocol=one) for one in range(6)), *SAMPLES]


def _graphs() -> list[bytes]:
    from tests.triton.graphs import BOOL, FLOAT, INT64, make_onnx

    plain = make_onnx({"x": (FLOAT, ["n", 3]), "w": (FLOAT, [1])}, {"y": (BOOL, [])}, constants=("w",), weights=9)
    return [plain, make_onnx({"x": (INT64, None)}, {"y": (FLOAT, [2, None])})]


@target("bytes", _graphs)
def onnx_interface(data: bytes) -> None:
    """The interface of a graph, and the configuration made of it, which the library must be able to read."""
    from buildkit.triton.files import repository_files
    from buildkit.triton.onnx_graph import GraphError, read_graph
    from buildkit.triton.read_config import read_config
    from tests.triton.test_generated_config import ONE, graphs_for, make

    try:
        graph = read_graph(iter((data,)))
    except GraphError as error:
        printable(str(error))
        return
    repository = make(ONE)
    with suppress(DefinitionError):
        text = repository_files(repository, graphs_for(repository, graph))["vad/config.pbtxt"]
        read_config(str(text), "config.pbtxt", "vad")


@target("text", lambda: [_written().encode()], DefinitionError)
def triton_config(data: bytes) -> None:
    from buildkit.triton.read_config import read_config
    from tests.triton.test_written_config import problems

    problems(as_text(data))
    assert all(line > 0 for line in read_config(as_text(data), "x.pbtxt", "x").lines.values())


def _written() -> str:
    from tests.triton.test_written_config import GOOD

    return GOOD


@target("bytes", _pickles)
def pickles(data: bytes) -> None:
    _scan(data)


def _models() -> list[bytes]:
    from tests.scan.test_formats_fuzz import SEEDS

    made = sorted((ROOT / "tests/scan/samples/formats").glob("*.gz"))
    small = [content for path in made if len(content := gzip.decompress(path.read_bytes())) <= 8192]
    return [*SEEDS, *small]


@target("bytes", _models)
def model_files(data: bytes) -> None:
    _scan(data)


def _scan(data: bytes) -> None:
    from buildkit.scan import BytesSource, ScanLimits, scan
    from buildkit.store.scan_verdicts import parse_scan, render_scan

    limits = ScanLimits(
        inflated=20_000_000,
        spill=5_000_000,
        members=500,
        depth=4,
        opcodes=100_000,
        memo=10_000,
        fields=20_000,
        findings=200,
        json=200_000,
    )
    found = scan("model.bin", BytesSource(data), limits=limits)
    check_findings(found.findings)
    for gap in found.gaps:
        printable(f"{gap.member} {gap.why}")
    assert parse_scan(render_scan(found)) is not None


# -- stored records ----------------------------------------------------------------------------------------------------


def _races() -> list[bytes]:
    one = {
        "until": "runnable",
        "scenario": "cold",
        "participant": "x",
        "repetition": 1,
        "seconds": 1.5,
        "cpu": 1.0,
        "verdict": "right",
    }
    other = {"until": "pushed", "scenario": "cold", "participant": "y", "why": "absent"}
    race = {
        "format": 1,
        "machine": {},
        "versions": {},
        "participants": {"x": "1"},
        "workload": {},
        "samples": [one],
        "skipped": [other],
        "calibrations": [{"cpu": 1.0}],
        "scale": [],
    }
    return [json.dumps(race).encode()]


@target("json", _races, DefinitionError)
def race_results(data: bytes) -> None:
    from buildkit.bench.results import parse_results

    parse_results(as_text(data), "results.json")


# -- messages ---------------------------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def ours(act: Callable[[], object]) -> None:
    """Run it; a BuildkitError is an accepted answer."""
    try:
        act()
    except BuildkitError as error:
        harmless(error)


def harmless(error: Exception) -> None:
    """Assert that an error is harmless in its printed form."""
    from buildkit.report.text import sanitize

    texts = (error.message, error.hint, error.output) if isinstance(error, BuildkitError) else (str(error),)
    for text in texts:
        assert not _CONTROL.search(sanitize(text)), ascii(text)


def printable(text: str) -> None:
    from buildkit.report.text import sanitize

    assert not _CONTROL.search(sanitize(text)), ascii(text)


def check_findings(findings: Any) -> None:
    """Assert that findings can be rendered in every output form."""
    from buildkit.report.findings_table import findings_json, render_findings
    from buildkit.report.sarif import SarifRun, render_sarif

    assert not _CONTROL.search("\n".join(render_findings(findings)))
    json.dumps(findings_json(findings)).encode()
    render_sarif(findings, SarifRun(check="x", version="1", hashes={}, accepted={})).encode()
