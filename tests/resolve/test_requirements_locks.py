"""Groups of requirements: resolved together, in agreement, kept if unchanged; with a fake resolver."""

import re
from dataclasses import replace

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, ToolError
from buildkit.events import Note, StepFailed, StepFinished, StepStarted, ignore_event
from buildkit.locks.freshness import find_inputs
from buildkit.locks.requirements_txt import parse_requirements
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.requirements import find_stale, lock_requirements, merge_groups, move_paths
from buildkit.tools.resolver import resolve

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
API, ML, DEV = "requirements/api.in", "requirements/ml.in", "requirements/dev.in"


class Resolver:
    """Pins every name to the newest version, unless preferences, constraints or the input say another."""

    def __init__(self, root):
        self.root, self.asked, self.newest, self.refuse_preferred = root, [], {}, False

    def __call__(self, request):
        self.asked.append(request)
        if self.refuse_preferred and request.preferred:
            raise ToolError("cannot keep")
        wanted = {}
        for file in request.inputs:
            for line in (self.root / file).read_text().splitlines():
                name, _, version = line.partition("#")[0].strip().partition("==")
                wanted[name] = version or wanted.get(name, "")
        fixed = dict(re.findall(r"^([\w-]+)==(\S+)", request.preferred, re.MULTILINE))
        fixed |= dict(re.findall(r"^([\w-]+)==(\S+)", request.constraints, re.MULTILINE))
        lines = []
        for name, version in sorted(wanted.items()):
            chosen = version or fixed.get(name) or self.newest.get(name, "1")
            lines.append(f"{name}=={chosen} \\\n    --hash={FileHash.of(f'{name}{chosen}'.encode())}\n")
        return "".join(lines)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / API).write_text("idna\nfastapi\n")
    (tmp_path / ML).write_text("idna==3\nnumpy\n")
    (tmp_path / DEV).write_text("idna\npytest\n")
    return tmp_path


@pytest.fixture
def resolver(root):
    return Resolver(root)


def lock(root, resolver, *groups, upgrade=False, emit=ignore_event, **more):
    request = LockRequest(root=root, target=TARGET, groups=groups, **more)
    drafts = LockDrafts(root)
    lock_requirements(request, drafts, resolver, emit, upgrade=upgrade)
    changed = drafts.changed()
    drafts.write()
    return changed


def versions(root, name):
    return dict(re.findall(r"^([\w-]+)==(\S+)", (root / f"requirements/{name}.txt").read_text(), re.MULTILINE))


def test_inputs_used_together_agree_on_versions(root, resolver):
    resolver.newest = {"idna": "9"}
    lock(root, resolver, (API, ML), (API, ML, DEV))
    assert versions(root, "api")["idna"] == versions(root, "ml")["idna"] == versions(root, "dev")["idna"] == "3"
    assert set(versions(root, "api")) == {"idna", "fastapi"}
    assert resolver.asked[0].inputs == (API, DEV, ML)


def test_inputs_never_used_together_may_differ(root, resolver):
    (root / DEV).write_text("idna==4\n")
    lock(root, resolver, (API, ML), (DEV,))
    assert (versions(root, "ml")["idna"], versions(root, "dev")["idna"]) == ("3", "4")


def test_cyclically_overlapping_groups_agree(root, resolver):
    (root / ML).write_text("numpy\n")
    (root / DEV).write_text("numpy==2\nidna\n")
    lock(root, resolver, (API, ML), (API, DEV), (ML, DEV))
    assert versions(root, "ml")["numpy"] == versions(root, "dev")["numpy"] == "2"


def test_conflicting_inputs_are_reported_and_nothing_is_written(root, resolver):
    (root / API).write_text("numpy==1\n")
    (root / ML).write_text("numpy==2\n")
    with pytest.raises(DefinitionError, match=r"requirements/ml\.in:1: numpy==2, but requirements/api\.in:1 pins"):
        lock(root, resolver, (API, ML))
    assert not (root / "requirements/api.txt").exists()


def test_resolving_is_a_step_that_finishes_or_fails(root, resolver):
    events = []
    lock(root, resolver, (API, ML), emit=events.append)
    assert [(type(event), event.step) for event in events] == [
        (kind, step) for step in ("lock api + ml", "lock api", "lock ml") for kind in (StepStarted, StepFinished)
    ]
    events.clear()

    def refuse(_request):
        raise ToolError("no such version")

    with pytest.raises(ToolError):
        lock(root, refuse, (API,), upgrade=True, emit=events.append)
    assert [type(event) for event in events] == [StepStarted, StepFailed]
    assert events[1].message == "no such version"


def test_locking_requirements_twice_changes_nothing_and_resolves_once(root, resolver):
    lock(root, resolver, (API, ML))
    asked = len(resolver.asked)
    assert lock(root, resolver, (API, ML)) == ()
    assert len(resolver.asked) == asked


def test_a_changed_input_keeps_the_other_versions(root, resolver):
    lock(root, resolver, (API, ML))
    resolver.newest = {"fastapi": "2", "numpy": "2"}
    (root / API).write_text("idna\nfastapi\nhttpx  # new\n")
    assert lock(root, resolver, (API, ML)) == ("requirements/api.txt",)
    assert versions(root, "api") == {"fastapi": "1", "httpx": "1", "idna": "3"}


def test_upgrade_takes_the_newest(root, resolver):
    lock(root, resolver, (API, ML))
    resolver.newest = {"fastapi": "2", "numpy": "2"}
    lock(root, resolver, (API, ML), upgrade=True)
    assert (versions(root, "api")["fastapi"], versions(root, "ml")["numpy"]) == ("2", "2")


def test_conflicting_locks_are_resolved_again(root, resolver):
    (root / ML).write_text("idna\n")
    lock(root, resolver, (API,))
    resolver.newest = {"idna": "9"}
    lock(root, resolver, (ML,))
    assert versions(root, "api")["idna"] != versions(root, "ml")["idna"]
    request = LockRequest(root=root, target=TARGET, groups=((API, ML),))
    assert "must agree" in str(find_stale(request, LockDrafts(root), (API, ML))[0])
    lock(root, resolver, (API, ML))
    assert versions(root, "api")["idna"] == versions(root, "ml")["idna"]


def test_another_target_or_locker_makes_it_stale(root, resolver):
    lock(root, resolver, (API,))
    other = LockRequest(root=root, target=Target(python="3.12", glibc="2.36", arch="x86_64"), groups=((API,),))
    assert "older than its input" in find_stale(other, LockDrafts(root), (API,))[0].what
    other = LockRequest(root=root, target=TARGET, locker="pip-tools", groups=((API,),))
    assert find_stale(other, LockDrafts(root), (API,))


def test_lock_header_names_the_hash_of_its_inputs(root, resolver):
    lock(root, resolver, (API,))
    assert find_inputs((root / "requirements/api.txt").read_text())


def test_versions_that_cannot_be_kept_are_replaced_with_a_warning(root, resolver):
    lock(root, resolver, (API, ML))
    resolver.refuse_preferred = True
    (root / API).write_text("idna\nfastapi==2\n")
    events = []
    lock(root, resolver, (API, ML), emit=events.append)
    assert versions(root, "api")["fastapi"] == "2"
    assert [event for event in events if isinstance(event, Note) and event.warning]


def test_parts_are_resolved_without_network_first(root, resolver):
    lock(root, resolver, (API, ML))
    assert [request.env.get("UV_OFFLINE") for request in resolver.asked] == [None, "1", "1"]


def test_groups_contained_in_other_groups_are_merged():
    assert merge_groups((("b", "a"), ("a", "b"), ("a",), ("c",), ())) == (("a", "b"), ("c",))


def test_warning_of_the_resolver_names_the_line_of_the_input_once(root, resolver):
    (root / API).write_text("# web\nFast_API[speed]\nidna\n")
    (root / ML).write_text("idna\nnumpy\n")
    events = []

    def warning(request):
        request.warn("The package `fast-api==1` does not have an extra named `speed`")
        request.warn("`deep==2` is yanked")
        request.warn("numpy 1.0 does not provide the extra 'x'")
        return resolver(replace(request, inputs=(ML,)))

    lock(root, warning, (API, ML), emit=events.append)
    assert [event.text for event in events if isinstance(event, Note)] == [
        f"{API}:2: The package `fast-api==1` does not have an extra named `speed`",
        f"{API}, {ML}: `deep==2` is yanked",
        f"{ML}:2: numpy 1.0 does not provide the extra 'x'",
    ]


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("../core", "./libs/core"),
        ("../core ; sys_platform == 'linux'", "./libs/core ; sys_platform == 'linux'"),
        ("-e ./sub/x", "-e ./libs/tk/sub/x"),
        ("sub/x", "./libs/tk/sub/x"),
        ("../../../out", "../out"),
        ("./libs/tk", "./libs/tk"),
        ("./unknown", "./unknown"),
        ("core==1 \\", "core==1 \\"),
        ("    # via ../core", "    # via ../core"),
    ],
)
def test_paths_become_relative_to_the_checkout(line, moved):
    places = {
        "../core": {"libs/core"},
        "./sub/x": {"libs/tk/sub/x"},
        "sub/x": {"libs/tk/sub/x"},
        "../../../out": {"../out"},
        "./libs/tk": {"libs/tk"},
    }
    assert move_paths(f"{line}\n", places) == f"{moved}\n"


def test_path_that_means_several_folders_is_refused():
    with pytest.raises(DefinitionError, match=r"`\.\./core` means apps/core and libs/core"):
        move_paths("../core\n", {"../core": {"libs/core", "apps/core"}})


PACKAGE = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
version = "1"
"""


@pytest.mark.tools
def test_an_unrelated_project_is_never_locked_for_a_package_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    root = tmp_path / "service"
    said = 'dependencies = ["core"]\n[tool.uv.sources]\ncore = { path = "../core" }\n'
    for folder, name, more in (("../core", "stranger", ""), ("libs/core", "core", ""), ("libs/tk", "tk", said)):
        (root / folder).mkdir(parents=True)
        (root / folder / "pyproject.toml").write_text(f'{PACKAGE}name = "{name}"\n{more}')
    (root / "requirements").mkdir()
    for file in (API, ML):
        (root / file).write_text("./libs/tk\n")
    lock(root, lambda asked: resolve(replace(asked, env={**asked.env, "UV_NO_INDEX": "1"})), (API, ML))
    for file in ("requirements/api.txt", "requirements/ml.txt"):
        text = (root / file).read_text()
        pins = parse_requirements(text, file, describe_local=LockDrafts(root).describe_local)
        assert [(pin.name, pin.path) for pin in pins] == [("core", "./libs/core"), ("tk", "./libs/tk")]


@pytest.mark.parametrize(("pin", "said"), [("python3.13=3.13.5-2\n", False), ("", True)])
def test_pip_tools_says_that_it_judges_by_the_python_of_this_host(root, resolver, pin, said):
    (root / "base.apt.lock").write_text(pin)
    events = []
    lock(root, resolver, (API,), locker="pip-tools", emit=events.append, roots={API: (("base.apt",),)})
    notes = [event.text for event in events if isinstance(event, Note)]
    assert [f"{API}: " in note and "names no release" in note for note in notes] == [True] * said
    assert resolver.asked[0].python == ("3.13" if said else "3.13.5")
