"""The baseline Containerfile: what it installs, in which order, and what a change rewrites."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.bench.baseline import FILE, LINKED, STAGED
from buildkit.bench.context import write_context
from buildkit.bench.lock_changes import render_pin
from buildkit.bench.project_copy import ProjectCopy
from buildkit.bench.synthetic_wheels import make_small_wheel
from buildkit.declare.project import load_project
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.freshness import models_inputs, render_header, wheels_inputs
from buildkit.locks.model_source import RepoSource
from buildkit.locks.models_lock import ModelsLock, render_models_lock
from buildkit.locks.pins import Model, ModelFile
from buildkit.locks.wheels_lock import make_wheels_lock, render_wheels_lock

ROOT = "127.0.0.1:5000/bench/root@sha256:" + "0" * 64
STAGES = {
    "base": f'summary = "root"\n\n[root]\nimage = "{ROOT}"\n',
    "app": """summary = "app"
from = "base"
ships = true

[wheels]
locks = ["requirements/app.txt"]

[models]
lock = "requirements/models.lock"

[[copy]]
source = "app"
target = "/app"

[config]
workdir = "/app"
cmd = ["python", "main.py"]
""",
}
DEBIAN = """summary = "root"

[root]
suite = "trixie"
packages = "x"
exclude = [
  "a",
]

[[root.user]]
name = "me"
uid = 5

[config]
user = "me"
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectCopy:
    """A project of a heavy and two light wheels, two models and a file."""
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    folder, links = tmp_path / "project", tmp_path / "links"
    links.mkdir()
    for name, text in STAGES.items():
        _write(folder / f"stages/{name}/stage.toml", text)
    _write(folder / "stages/app/app/main.py", "print()\n")
    _write(folder / "pyproject.toml", "[tool.buildkit]\nbytecode = false\nheavy = 50000\n")
    sizes = {"big": 80_000, "one": 9, "two": 9}
    artifacts = tuple(make_small_wheel(name, "1.0", size, links) for name, size in sizes.items())
    target = load_project(folder).target
    lock = render_header(FileHash.of(b"x")) + "".join(map(render_pin, artifacts))
    _write(folder / "requirements/app.txt", lock)
    wheels = make_wheels_lock(wheels_inputs(lock, target), target, artifacts)
    _write(folder / "requirements/app.wheels.toml", render_wheels_lock(wheels))
    models = tuple(_model(folder, name) for name in ("m1", "m2"))
    locked = ModelsLock(inputs=models_inputs(""), models=models, requests=tuple(FileHash.of(b"r") for _ in models))
    _write(folder / "requirements/models.lock", render_models_lock(locked))
    return ProjectCopy(folder, "app", links)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _model(folder: Path, name: str) -> Model:
    path = f"models/{name}/weights.bin"
    _write(folder / path, name)
    file = ModelFile(path="weights.bin", sha256=FileHash.of(name.encode()), size=2, source=path)
    return Model(name=name, version="", source=RepoSource(path=f"models/{name}"), license="", files=(file,))


def _lines(checkout: ProjectCopy, file: str = FILE) -> list[str]:
    return (checkout.folder / file).read_text().splitlines()


def test_containerfile_orders_heavy_light_models_application(checkout: ProjectCopy) -> None:
    write_context(checkout)
    lines = _lines(checkout)
    order = ["FROM 127", "WORKDIR", "uv venv", "COPY bench/heavy.txt", "heavy.txt", "COPY bench/light.txt", "light.txt"]
    order += [
        "COPY models/m1/weights.bin /models/m1/weights.bin",
        "COPY models/m2",
        "CMD",
        "COPY stages/app",
    ]
    places = [next(n for n, line in enumerate(lines) if word in line and n > at) for at, word in _pairs(lines, order)]
    assert places == sorted(places)
    assert lines[0] == f"FROM {ROOT} AS venv"
    assert all("--require-hashes" in line and "--no-index" in line for line in lines if "pip install" in line)
    assert not any("--link" in line for line in lines)


def _pairs(lines: list[str], words: list[str]) -> list[tuple[int, str]]:
    at, found = -1, []
    for word in words:
        found.append((at, word))
        at = next(n for n, line in enumerate(lines) if word in line and n > at)
    return found


def test_containerfile_has_link_and_staged_variants(checkout: ProjectCopy) -> None:
    write_context(checkout)
    linked, staged = _lines(checkout, LINKED), _lines(checkout, STAGED)
    assert [line.replace("COPY --link", "COPY") for line in linked] == _lines(checkout)
    assert sum(line.startswith("FROM ") for line in staged) == 4
    assert "COPY --link --from=heavy /out/ /" in staged
    for lines in (linked, staged):  # it makes a folder: below it BuildKit would have to have every layer
        last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
        assert lines[last + 1] == "WORKDIR /app"
        assert sum(line.startswith("WORKDIR") for line in lines) == 1
    assert all("--prefix /out/opt/venv" in line for line in staged if "pip install" in line)


def test_wheel_groups_are_separate_and_only_the_changed_one_differs(checkout: ProjectCopy) -> None:
    assert set(write_context(checkout)) == {"bench/heavy.txt", "bench/light.txt"}
    assert write_context(checkout) == ()
    wheels = checkout.folder / "bench/wheels"
    assert {path.name for path in (wheels / "heavy").iterdir()} == {"big-1.0-py3-none-any.whl"}
    checkout.change_pin(next(one for one in checkout.artifacts() if one.name == "one"), 1)
    assert write_context(checkout) == ("bench/light.txt",)
    assert {path.name for path in (wheels / "light").iterdir()} == {
        "one-1.0+bench1-py3-none-any.whl",
        "two-1.0-py3-none-any.whl",
    }
    checkout.add_wheel(2)
    assert write_context(checkout) == ("bench/heavy.txt",), "64 kB are heavy here"


def test_typical_wheel_is_the_same_in_every_repetition(checkout: ProjectCopy) -> None:
    for number in range(1, 4):
        light, heavy = checkout.light(), checkout.heavy()
        assert light is not None
        assert (light.name, light.version) == ("big", "1.0"), "the one nearest to 64 kB"
        assert heavy == light
        checkout.change_pin(light, number)
        checkout.add_wheel(number)


def test_changes_list_what_an_image_must_contain(checkout: ProjectCopy) -> None:
    write_context(checkout)
    site = "opt/venv/lib/python3.13/site-packages"
    line = checkout.change_line(3)
    assert [path for path, _ in line.files] == ["app/main.py"]
    assert (checkout.folder / "stages/app/app/main.py").read_text().endswith("# line 3 of the race\n")
    pin = checkout.change_pin(next(one for one in checkout.artifacts() if one.name == "two"), 4)
    assert [path for path, _ in pin.files] == [f"{site}/bench_two.txt"]
    assert pin.gone == (f"{site}/two-1.0.dist-info/METADATA",)
    again = checkout.change_pin(next(one for one in checkout.artifacts() if one.name == "two"), 5)
    assert again.gone == (f"{site}/two-1.0+bench4.dist-info/METADATA",)
    models = [checkout.change_model(number).files[0] for number in (6, 7, 8)]
    assert [path for path, _ in models] == [f"models/m{n}/weights.bin" for n in (1, 2, 1)]
    assert len({digits for _, digits in models}) == 3
    write_context(checkout)


def test_small_models_are_never_changed(checkout: ProjectCopy) -> None:
    lock = checkout.folder / "requirements/models.lock"
    lock.write_text(lock.read_text().replace("size = 2", "size = 10", 1))
    assert {checkout.change_model(number).inputs for number in range(4)} == {("models/m1/weights.bin",)}


def test_whole_lists_wheels_models_and_application(checkout: ProjectCopy) -> None:
    site = "opt/venv/lib/python3.13/site-packages"
    whole = dict(checkout.whole().files)
    assert set(whole) == {
        *(f"{site}/{name}-1.0.dist-info/METADATA" for name in ("big", "one", "two")),
        *(f"models/{name}/weights.bin" for name in ("m1", "m2")),
        "app/main.py",
    }
    assert whole["models/m1/weights.bin"] == FileHash.of(b"m1").hex
    assert whole["app/main.py"] == FileHash.of(b"print()\n").hex


def test_whole_contains_earlier_changes(checkout: ProjectCopy) -> None:
    """A race until another goal begins with the checkout as the one before left it."""
    before = dict(checkout.whole().files)
    changes = [
        checkout.change_pin(next(one for one in checkout.artifacts() if one.name == "two"), 1),
        checkout.add_wheel(2),
        checkout.change_model(3),
        checkout.change_line(4),
    ]
    whole = dict(checkout.whole().files)
    assert not {path for change in changes for path in change.gone} & whole.keys()
    assert {path for path in whole.keys() - before.keys() if path.endswith("METADATA")} == {
        f"opt/venv/lib/python3.13/site-packages/{name}.dist-info/METADATA"
        for name in ("two-1.0+bench1", "bench_addition_2-1.0")
    }
    for change in changes[2:]:
        assert dict(change.files).items() <= whole.items()


def test_set_root_replaces_the_root_and_keeps_the_stage_valid(checkout: ProjectCopy) -> None:
    other = ROOT.replace("0" * 64, "1" * 64)
    path = checkout.folder / "stages/base/stage.toml"
    path.write_text(DEBIAN)
    checkout.graph = ProjectCopy(checkout.folder, "app", checkout.links).graph
    checkout.set_root(other)
    base = checkout.graph.stages["base"]
    assert (base.image, base.debian, base.config.user) == (other, None, "me")
    write_context(checkout)
    assert _lines(checkout)[0] == f"FROM {other} AS venv"


def test_unsupported_stages_are_refused(checkout: ProjectCopy) -> None:
    path = checkout.folder / "stages/app/stage.toml"
    path.write_text(path.read_text() + '\n[[run]]\ncommand = ["true"]\n')
    checkout.graph = ProjectCopy(checkout.folder, "app", checkout.links).graph
    with pytest.raises(DefinitionError, match="runs steps"):
        write_context(checkout)
