"""What a build says of an image that cannot start: command, module, user and interpreter, looked up in listings."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from buildkit.build.context import BuildContext, open_context
from buildkit.build.interpreter_check import check_builder, check_interpreter, check_release
from buildkit.build.start_check import warn_of_start
from buildkit.declare.project import parse_project
from buildkit.declare.stage import Config, Copy, Stage
from buildkit.digest import DiffId, Digest, Key
from buildkit.errors import DefinitionError
from buildkit.events import Event, Note
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.image import Image
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, PackFiles, PackPrefix, Spec, Tree
from tests.ledgers import LayerId
from tests.plan.planfakes import blob_of

ROOT = [
    ("bin", "-> usr/bin"), ("usr/bin/dash", "1 +x"), ("usr/bin/sh", "-> dash"), ("usr/bin/python3.13", "2 +x"),
    ("usr/lib/python3.13/os.py", "3"), ("usr/lib/python3.13/http/__init__.py", "4"), ("etc/group", "8"),
    ("etc/passwd", "7"), ("usr/bin/tini", "9 +x"), ("usr/bin/notes", "5"),
]  # fmt: skip
SITE = "opt/venv/lib/python3.13/site-packages"
PREFIX = [("opt/venv/bin/python", "-> /usr/bin/python3.13"), ("opt/venv/bin/python3", "-> python")]
WHEELS = [("opt/venv/bin/uvicorn", "6 +x"), (f"{SITE}/uvicorn/__main__.py", "7"), ("app/main.py", "8")]
ENV = (("PATH", "/opt/venv/bin:/usr/bin:/bin"),)


@dataclass
class Built:
    """A cache in which the layers of an image are recorded."""

    context: BuildContext
    events: list[Event] = field(default_factory=list)

    def layer(self, name: str, kind: Kind, listing: list[tuple[str, str]] | None, blob: Blob | None = None) -> Spec:
        spec = Spec(
            name=f"base/{name}", kind=kind, recipe="{}", key=Key.of(name.encode()), work=PackPrefix(), history=""
        )
        stored = LayerResult(blobs=(blob or blob_of(name),))
        self.context.ledger.add_layer(LayerId(spec.key, kind, name, "{}"), stored, listing)
        self.context.state.learn({spec.key: stored})
        return spec

    def composition(
        self, root: list[tuple[str, str]] | None = None, prefix: list[tuple[str, str]] | None = None
    ) -> Composition:
        stage = Stage(name="app", file="stages/app/stage.toml", summary="s")
        layers = (self.layer("prefix", Kind.PREFIX, prefix or PREFIX), self.layer("wheels", Kind.WHEELS, WHEELS))
        return Composition(
            stage=stage, root=(self.layer("root", Kind.ROOT, root or ROOT, accounts(self.context)),),
            layers=layers, config=Config(),
        )  # fmt: skip

    def said(self, config: Config, composition: Composition | None = None, inherited: str = "{}") -> list[str]:
        """The warnings of a build of an image with this config."""
        self.events.clear()
        image = Image(
            layers=(), config=replace(config, env=config.env or ENV), arch="amd64", inherited=inherited
        )  # fmt: skip
        warn_of_start(composition or self.composition(), image, self.context)
        return [e.text.removeprefix("will not start: ") for e in self.events if isinstance(e, Note) and e.warning]


def accounts(context: BuildContext) -> Blob:
    """The blob of a root with accounts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        users, groups = "root:x:0:0::/:\nmluser:x:1:1::/:\n", "root:x:0:\nstaff:x:50:\n"
        for name, text in (("etc/group", groups), ("etc/passwd", users)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    data = out.getvalue()
    place = context.blobs.path(Digest.of(data))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return Blob(
        digest=Digest.of(data), diff_id=DiffId.of(data), size=len(data), unpacked=len(data),
        compression=Compression.NONE,
    )  # fmt: skip


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Built]:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    events: list[Event] = []
    project = parse_project("[tool.buildkit]\npython = '3.13'", tmp_path)
    with open_context(project, events.append) as context:
        yield Built(context, events)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(cmd=("uvicorn", "main:app"), user="mluser:staff"), ""),
        (Config(cmd=("/bin/sh", "-c", "nowhere"), user="1234:77"), ""),
        (Config(cmd=("python", "-m", "uvicorn")), ""),
        (Config(cmd=("python3", "-m", "http.server")), ""),
        (Config(entrypoint=("tini", "--"), cmd=("python", "main.py"), workdir="/app"), ""),
        (Config(cmd=("uvicorm",)), "in no folder of PATH (stages/app/stage.toml, [config]); did you mean `uvicorn`?"),
        (Config(cmd=("gunicorn",)), "`gunicorn` of the command is in no folder of PATH"),
        (Config(entrypoint=("tini", "--", "/run.sh")), "/run.sh of the command is nowhere in the image"),
        (Config(entrypoint=("/tini", "--"), cmd=("uvicorn",)), "/tini of the command is nowhere in the image"),
        (Config(cmd=("./main.py",), workdir="/app"), "/app/main.py of the command is not executable"),
        (Config(cmd=("notes",)), "`notes` of the command is not executable"),
        (Config(cmd=("python", "-m", "unicorn.main")), "the module `unicorn`, which Python is to run, is nowhere"),
        (Config(cmd=("python", "men.py"), workdir="/app"), "/app/men.py, which Python is to run, is nowhere"),
        (Config(cmd=("uvicorn",), user="nobody2"), "the user `nobody2` is not in /etc/passwd of the image"),
        (Config(cmd=("uvicorn",), user="mlusr"), "did you mean `mluser`?"),
        (Config(cmd=("uvicorn",), user="mluser:stuff"), "the group `stuff` is not in /etc/group of the image"),
    ],
)  # fmt: skip
def test_build_says_what_is_not_in_the_image(built: Built, config: Config, said: str) -> None:
    lines = built.said(config)
    assert [said in line for line in lines] == ([True] if said else [])


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"#!/bin/sh\necho\n", ""),
        (b"#! /usr/bin/env -S python3 -u\nprint()\n", ""),
        (b"\x7fELF\2", ""),
        (b"#!/bin/bash\necho\n", "is run by /bin/bash, which is nowhere in the image"),
        (b"#!/usr/bin/env pythonx\nprint()\n", "is run by pythonx, which is in no folder of PATH"),
        (b"#!/bin/sh\r\necho\r\n", "has the line ends of Windows"),
        (b"echo\n", "has no first line #!/PROGRAM, so nothing runs it"),
        (b"", "has no first line #!/PROGRAM, so nothing runs it"),
    ],
)
@pytest.mark.parametrize("single", [False, True])
def test_copied_script_needs_a_program_that_runs_it(built: Built, head: bytes, said: str, *, single: bool) -> None:
    source = built.context.project.folder / "src/run.sh"
    source.parent.mkdir()
    source.write_bytes(head)
    tree, target = ("src/run.sh", "/srv/run.sh") if single else ("src", "/srv")
    work = PackFiles(tree=Tree(path=tree, files=()), copy=Copy(source=f"/{tree}", target=target))
    root = [*ROOT, ("usr/bin/env", "5 +x"), ("usr/bin/python3", "-> python3.13")]
    composition = built.composition(root)
    copied = replace(built.layer("copied", Kind.FILES, [("srv/run.sh", "1 +x")]), work=work)
    lines = built.said(Config(cmd=("/srv/run.sh",)), replace(composition, layers=(*composition.layers, copied)))
    assert lines == ([f"/srv/run.sh of the command {said} (stages/app/stage.toml, [config])"] if said else [])


def test_command_of_a_registry_image_is_checked_too(built: Built) -> None:
    assert "`gone` of the command" in built.said(Config(), inherited='{"Cmd": ["gone"]}')[0]


def test_prefix_without_its_interpreter_names_the_one_that_the_root_has(built: Built) -> None:
    root = [(path.replace("3.13", "3.12"), content) for path, content in ROOT]
    (line,) = built.said(Config(cmd=("uvicorn",)), built.composition(root))
    assert line.startswith(
        "/opt/venv has no Python: /usr/bin/python3.13 is not in the root; it has /usr/bin/python3.12 "
    )
    assert 'python = "3.12"' in line
    _, link = built.said(Config(cmd=("python",)), built.composition(root))
    assert link == "`python` of the command is a link that leads nowhere (stages/app/stage.toml, [config])"


def test_same_image_is_checked_once_and_another_config_anew(built: Built) -> None:
    composition = built.composition()
    assert built.said(Config(cmd=("gone",)), composition)
    built.layer("wheels", Kind.WHEELS, [("opt/venv/bin/gone", "1 +x")])  # cannot happen to one key
    assert built.said(Config(cmd=("gone",)), composition)  # the kept line
    assert not built.said(Config(cmd=("gone",), user="1"), composition)


def test_nothing_is_said_where_a_listing_is_not_here(built: Built) -> None:
    composition = built.composition()
    unknown = built.layer("remote", Kind.WHEELS, None)
    assert not built.said(Config(cmd=("gone",)), replace(composition, layers=(*composition.layers, unknown)))


def test_bytecode_is_not_compiled_by_a_root_without_the_interpreter(built: Built) -> None:
    composition = built.composition()
    check_interpreter(built.context, composition.root)
    other = built.composition([("usr/bin/python3.12", "1 +x")])
    with pytest.raises(DefinitionError, match=r"^stages/base: /opt/venv has no Python: /usr/bin/python3\.13") as caught:
        check_interpreter(built.context, other.root)
    assert "[tool.buildkit]" in caught.value.hint


def test_own_python_is_not_started_on_a_root_without_glibc(built: Built) -> None:
    target = replace(built.context.project.target, standalone=True, interpreter="/opt/python/bin/python3.13")
    context = replace(built.context, project=replace(built.context.project, target=target))
    own = built.layer("own", Kind.PYTHON, [("opt/python/bin/python3.13", "1 +x")])
    musl = built.composition([("lib/ld-musl-x86_64.so.1", "1 +x")])
    with pytest.raises(
        DefinitionError, match=r"^stages/base: the root has no glibc \(/lib64/ld-linux-x86-64"
    ) as caught:
        check_interpreter(context, (*musl.root, own))
    assert "Alpine" in caught.value.hint
    glibc = built.composition([("lib64/ld-linux-x86-64.so.2", "1 +x")])
    check_interpreter(context, (*glibc.root, own))


def test_interpreter_of_another_release_is_refused(built: Built) -> None:
    target = built.context.project.target
    check_release("cpython-313", target, "base/root")
    with pytest.raises(DefinitionError, match=r"of stages/base is cpython-312, and .* python = \"3\.13\""):
        check_release("cpython-312", target, "base/root")


@pytest.mark.parametrize(
    ("prefix", "wheels", "message"),
    [
        (PREFIX, [("usr/lib/python3/dist-packages/pip/__init__.py", "1")], ""),
        (PREFIX, [(f"{SITE}/pip/__init__.py", "1")], ""),
        (PREFIX, WHEELS, "wheels are compiled by pip, which the builder lacks"),
        ([("opt/venv/x", "1")], WHEELS, "wheels are compiled by /opt/venv/bin/python, which the builder lacks"),
        (
            [("opt/venv/bin/python", "-> /usr/bin/python3.13")], None,
            "/opt/venv has no Python: /usr/bin/python3.13 is not in the root; it has no Python",
        ),
    ],
)  # fmt: skip
def test_builder_without_python_or_pip_is_one_line(
    built: Built, prefix: list[tuple[str, str]], wheels: list[tuple[str, str]] | None, message: str
) -> None:
    made = built.composition(ROOT if wheels else [("etc/motd", "1")], prefix)
    builder = replace(made, layers=(made.layers[0], built.layer("tools", Kind.WHEELS, wheels or WHEELS)))
    if not message:
        check_builder(built.context, builder)
        return
    with pytest.raises(DefinitionError) as caught:
        check_builder(built.context, builder)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
