"""The export session: files written and refused, and linters pass for every stage of the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.planner import open_planner
from buildkit.containerfile.builder import ContainerfileExport, ExportOptions, SideFile
from buildkit.containerfile.render import MARK
from buildkit.containerfile.root_script import render_root_script
from buildkit.errors import DefinitionError
from buildkit.inspection.export_containerfile import find_inside, find_links, find_output, make_export, write_export
from buildkit.plan.spec import MakeRoot
from tests.plan.planfakes import composer

ROOT = Path(__file__).resolve().parents[2]
MADE = ContainerfileExport(
    text=f"{MARK} -- x`\nFROM scratch AS x\n",
    files=(
        SideFile(path="Podmanfile.d/one.txt", text="1"),
        SideFile(path="Podmanfile.dockerignore", text=MARK + "`\n*\n"),
    ),
)


def test_unchanged_export_is_not_rewritten_and_obsolete_files_are_removed(tmp_path: Path) -> None:
    options = ExportOptions()
    assert write_export(tmp_path, options, MADE) == 3
    old = tmp_path / "Podmanfile.d/one.txt"
    before = old.stat()
    assert write_export(tmp_path, options, MADE) == 0
    assert old.stat().st_mtime_ns == before.st_mtime_ns
    other = ContainerfileExport(text=MADE.text, files=(SideFile(path="Podmanfile.d/two.txt", text="2"), MADE.files[1]))
    assert write_export(tmp_path, options, other) == 1
    assert [path.name for path in (tmp_path / "Podmanfile.d").iterdir()] == ["two.txt"]


@pytest.mark.parametrize("name", ["Podmanfile", "Podmanfile.dockerignore"])
def test_foreign_file_is_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("FROM mine\n")
    with pytest.raises(DefinitionError, match=f"{name} is there already, and is not an export") as caught:
        write_export(tmp_path, ExportOptions(), MADE)
    assert caught.value.hint == "name another file by --output, or remove it"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "FROM mine\n"


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("..", "is outside the project"),
        ("../x", "is outside the project"),
        ("/elsewhere/x", "is outside the project"),
        ("a/../..", "is outside the project"),
        (".", "is the project's folder itself"),
        ("", "is the project's folder itself"),
        ("a/..", "is the project's folder itself"),
        ("with space", "`with space` has ` `"),
        ("a,b", "`a,b` has `,`"),
        ("$HOME", r"`\$HOME` has `\$`"),
    ],
)
@pytest.mark.parametrize(("option", "what"), [("--output", "file"), ("--find-links", "folder")])
def test_paths_that_a_builder_cannot_name_are_refused(path: str, printed: str, option: str, what: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{option}: .*{printed}") as caught:
        find_inside(Path("/project"), path, option, what)
    assert caught.value.hint.startswith(
        "give it a plainer name" if " has " in printed else f"name a {what} below /project"
    )


@pytest.mark.parametrize("path", ["/project/ci/Podmanfile", "ci/Podmanfile", "./ci//Podmanfile", "x/../ci/Podmanfile"])
def test_paths_within_the_project_are_normalised(path: str) -> None:
    assert find_inside(Path("/project"), path, "--output", "file") == "ci/Podmanfile"


def test_export_to_standard_output_is_refused(tmp_path: Path) -> None:
    message = refuse_output(tmp_path, "-")
    assert message == (
        "--output: an export is several files, which cannot be printed",
        f"name a file below {tmp_path}, or leave --output away for Podmanfile",
    )


def test_folder_in_place_of_the_containerfile_is_refused(tmp_path: Path) -> None:
    for taken in ("stages", "one.dockerignore", "two.d"):
        (tmp_path / taken).mkdir()
    assert refuse_output(tmp_path, "stages") == (
        "--output: `stages` is not a file",
        "name a file, such as stages/Podmanfile",
    )
    assert refuse_output(tmp_path, "one") == ("--output: `one.dockerignore` is not a file", "name another file")
    assert find_output(tmp_path, "two") == "two"


def test_file_in_place_of_the_side_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.d").write_text("")
    assert refuse_output(tmp_path, "one") == ("--output: `one.d` is not a folder", "name another file")


@pytest.mark.parametrize("path", ["no/such/Podmanfile", "setup.cfg/Podmanfile"])
def test_output_in_a_missing_folder_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text("")
    assert refuse_output(tmp_path, path) == (
        f"{tmp_path / path}: this file cannot be written",
        "name one in a folder that exists",
    )
    assert [found.name for found in tmp_path.iterdir()] == ["setup.cfg"]


def test_missing_find_links_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "file").write_text("")
    assert find_links(tmp_path, "wheels") == "wheels"
    for path in ("nowhere", "file"):
        with pytest.raises(DefinitionError, match=f"^--find-links: there is no folder `{path}`$") as caught:
            find_links(tmp_path, path)
        assert caught.value.hint == f"name a folder of wheels below {tmp_path}, or leave --find-links away for an index"


def refuse_output(folder: Path, path: str) -> tuple[str, str]:
    """Message and hint."""
    with pytest.raises(DefinitionError) as caught:
        find_output(folder, path)
    return caught.value.message, caught.value.hint


@pytest.mark.tools  # git lists what belongs to the checkout
@pytest.mark.parametrize(
    "options",
    [ExportOptions(), ExportOptions(link=True, bytecode=False, find_links="wheels", uv="localhost/uv:1")],
    ids=["plain", "options"],
)
def test_every_reference_stage_exports_and_passes_the_linters(
    options: ExportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    bin_folder = Path(sys.executable).parent
    with open_planner(ROOT, lambda _event: None) as planner:
        with pytest.raises(DefinitionError, match="served models are configured by their graphs"):
            make_export(planner, "triton", options)
        for name in sorted(planner.graph.stages.keys() - {"triton"}):
            folder = tmp_path / name
            folder.mkdir()
            write_export(folder, options, make_export(planner, name, options))
            lint(bin_folder / "hadolint", "--failure-threshold=style", "--no-color", str(folder / "Podmanfile"))
            if scripts := sorted(map(str, folder.glob("*.d/*.sh"))):
                lint(bin_folder / "shellcheck", *scripts)


@pytest.mark.tools
@pytest.mark.parametrize("day", ["", "20261122T000000Z"])
def test_snapshot_argument_installs_versions_of_that_day(day: str, tmp_path: Path) -> None:
    """A fake mmdebstrap records its arguments."""
    made = composer()
    debian = made.compose("base").root[0].work
    assert isinstance(debian, MakeRoot)
    (tmp_path / "packages").write_text("# Debian trixie\nlibc6=2.41\npython3.13=3.13.5\n")
    fake = tmp_path / "mmdebstrap"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nexit 1\n')
    fake.chmod(0o755)
    script = render_root_script(debian, "amd64", str(tmp_path / "packages"), bytecode=False)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SNAPSHOT": day}
    assert subprocess.run(("sh", "-c", script), env=env, check=False).returncode == 1
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "--include=libc6=2.41,python3.13=3.13.5" in asked
    mirrors = [line.replace("[check-valid-until=no] http://snapshot.debian.org/archive/", "") for line in asked[7:]]
    assert asked[5:7] == ["trixie", "/rootfs"]
    wanted = ["debian/{} trixie", "debian/{} trixie-updates", "debian-security/{} trixie-security"]
    assert mirrors == ([f"deb {line.format(day)} main" for line in wanted] if day else [])


@pytest.mark.tools
def test_archives_of_the_root_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    """A fake mmdebstrap records its arguments."""
    made = composer().compose("base").root[0].work
    assert isinstance(made, MakeRoot)
    (tmp_path / "packages").write_text("libc6=2.41\n")
    fake = tmp_path / "mmdebstrap"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nexit 1\n')
    fake.chmod(0o755)
    work = replace(made, sources="Types: deb\n")
    script = render_root_script(work, "amd64", str(tmp_path / "packages"), bytecode=False)
    subprocess.run(("sh", "-c", script), env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
    assert (tmp_path / "asked").read_text().splitlines()[-3:] == ["trixie", "/rootfs", "/tmp/archives.sources"]


def lint(program: Path, *arguments: str) -> None:
    done = subprocess.run((str(program), *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
