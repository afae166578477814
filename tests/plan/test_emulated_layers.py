"""Which layers of an image for another processor need programs of it, by what the locks say."""

from pathlib import Path

import pytest

from buildkit.build.emulation_check import check_emulation
from buildkit.declare.containerfile_root import ContainerfileRoot
from buildkit.declare.graph import Graph
from buildkit.declare.project import Project, parse_project
from buildkit.errors import BuildError
from buildkit.locks.pins import AptPin
from buildkit.plan.compose import Composer
from buildkit.plan.emulation import find_emulated
from buildkit.plan.spec import BuildContainerfile, Kind, Spec, Tree, arch_of, make_recipe
from tests.plan.planfakes import FakeCheckout, make_graph_of, wheel

ROOT = 'summary = "x"\n[root]\nsuite = "trixie"\nvariant = "{variant}"\npackages = "base.apt"\n'
STAGES = {
    "base": ROOT.format(variant="extract"),
    "full": ROOT.format(variant="minbase"),
    "step": 'summary = "x"\nfrom = "base"\n[[run]]\nname = "warm"\ncommand = ["true"]\n',
    "app": 'summary = "x"\nfrom = "base"\n[wheels]\nlocks = ["app.txt"]\n',
}
SAME = "3.13.5-2"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def project_of(arch: str, settings: str = "") -> Project:
    text = f"tool.buildkit.arch = ['x86_64', 'aarch64']\ntool.buildkit.interpreter = '/usr/bin/python3.13'\n{settings}"
    return parse_project(text, Path("/x")).of_arch(arch)


def checkout_of(version: str) -> FakeCheckout:
    pin = AptPin(name="python3.13-minimal", version=version)
    return FakeCheckout(apts={"base.apt": (pin,)}, wheels={"app.txt": (wheel("heavy", size=5 << 20),)})


def composers(arm: str = SAME, stages: dict[str, str] | None = None) -> tuple[Graph, Composer, Composer]:
    graph = make_graph_of(stages or STAGES)
    native = Composer(project_of("x86_64"), graph, checkout_of(SAME))
    return graph, native, Composer(project_of("aarch64"), graph, checkout_of(arm), lambda _arch: native)


def emulated(name: str, arm: str = SAME) -> list[tuple[str, str]]:
    _, _, composer = composers(arm)
    specs = composer.compose(name).specs
    return [(one.layer, one.what) for one in find_emulated(specs, project_of("aarch64"), composer)]


@pytest.mark.usefixtures("host")
def test_layers_that_depend_on_no_program_of_the_processor_need_no_emulation() -> None:
    assert emulated("base") == emulated("app") == []


@pytest.mark.usefixtures("host")
def test_scripts_and_steps_need_emulation() -> None:
    assert emulated("full") == [("full/root", "scripts of packages")]
    assert emulated("step") == [("step/warm", "a step")]


@pytest.mark.usefixtures("host")
def test_another_release_of_python_compiles_nothing_for_this_one() -> None:
    library, compiler = "its Python, whose release this machine has not", "the bytecode compiler, whose release"
    (root, packed) = emulated("app", "3.13.7-1")
    assert root == ("base/root", library)
    assert packed[1].startswith(compiler)


@pytest.mark.usefixtures("host")
def test_wheels_of_both_processors_have_one_recipe_and_are_compiled_by_this_machines_python() -> None:
    _, native, composer = composers()
    ours, theirs = ({spec.name: spec.key for spec in one.compose("app").specs} for one in (native, composer))
    assert {name for name in ours if ours[name] == theirs[name]} == {"/opt/venv", "app/heavy"}
    assert composer.compiler == native.bytecode_root != composer.bytecode_root


@pytest.mark.usefixtures("host")
def test_bytecode_of_a_registrys_image_is_named_by_the_first_processor() -> None:
    stages = {"base": f'summary = "x"\n[root]\nimage = "r/python@sha256:{"a" * 64}"\n', "app": STAGES["app"]}
    _, native, composer = composers(stages=stages)
    ours, theirs = ({spec.name: spec.key for spec in one.compose("app").specs} for one in (native, composer))
    assert ours["app/heavy"] == theirs["app/heavy"]
    assert ours["base/image"] != theirs["base/image"]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("arch", "expected"), [("arm64", ["a Containerfile"]), ("amd64", [])])
def test_containerfile_needs_emulation_for_another_processor(arch: str, expected: list[str]) -> None:
    root = ContainerfileRoot(file="Containerfile")
    tree = Tree(path=".", files=())
    work = BuildContainerfile(root=root, text="FROM scratch", arch=arch, context=tree, images=(), below=None)
    recipe, key = make_recipe("containerfile")
    spec = Spec(name="base/containerfile", kind=Kind.CONTAINERFILE, recipe=recipe, key=key, work=work, history="")
    _, _, composer = composers()
    assert [one.what for one in find_emulated([spec], project_of("aarch64"), composer)] == expected
    assert arch_of((spec,)) == arch


@pytest.mark.usefixtures("host")
def test_image_for_this_machine_needs_nothing() -> None:
    _, native, _ = composers()
    assert list(find_emulated(native.compose("step").specs, native._project, native)) == []


@pytest.mark.usefixtures("host")
def test_machine_without_emulation_is_told_every_layer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, composer = composers()
    notes: list[str] = []
    files = _StubOfBuild(find_wheel=lambda _key: None)
    context = _StubOfBuild(project=project_of("aarch64"), emit=lambda note: notes.append(note.text), files=files)
    planner = _StubOfBuild(context=context, composer=composer, plan_tools=lambda _plan: ())
    plan = _StubOfBuild(
        missing=[_StubOfBuild(spec=spec) for name in ("full", "step") for spec in composer.compose(name).specs]
    )
    monkeypatch.setattr("buildkit.build.emulation_check.can_emulate", lambda _arch: False)
    with pytest.raises(BuildError) as caught:
        check_emulation(planner, plan)  # type: ignore[arg-type]
    assert caught.value.message == (
        "this machine is x86_64, and these layers run programs for aarch64: "
        "full/root (scripts of packages), step/warm (a step)"
    )
    assert "qemu-user-static" in caught.value.hint
    assert notes == []
    monkeypatch.setattr("buildkit.build.emulation_check.can_emulate", lambda _arch: True)
    check_emulation(planner, plan)  # type: ignore[arg-type]
    assert len(notes) == 1
    assert "full/root (scripts of packages), step/warm (a step)" in notes[0]


class _StubOfBuild:
    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)
