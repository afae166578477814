"""Where images go: by setting, option and variable, and where the image store cannot serve."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]
APP = "localhost/tiny/app:latest"
_VFS = '[storage]\ndriver = "vfs"\ngraphroot = "{folder}/vfs"\nrunroot = "{folder}/run"\n'


def is_imported(tiny: Tiny) -> bool:
    """Return whether the user's own storage has the image, without any image store."""
    tiny.see_store(seen=False)
    argv = ("podman", "image", "exists", APP)
    return subprocess.run(argv, env=tiny.env, cwd=tiny.folder, check=False).returncode == 0


def test_import_says_what_spares_it_and_that_command_does(tiny: Tiny) -> None:
    advice = "nox -s doctor -- --enable-store"
    first = tiny.build("app")
    assert len(re.findall(r"were copied into local storage in \d+\.\d s, because", first.text)) == 1
    assert advice in first.text or "doctor --enable-store" in first.text
    assert "were copied" not in tiny.build("app").text, "nothing was imported"
    assert tiny.run("doctor", "--enable-store").code == 0
    second = tiny.build("app")
    assert (second.built(), "were copied" in second.text) == ({}, False)
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    tiny.build("app")
    assert tiny.run_image("app") == "hello again\n"
    assert tiny.run("doctor", "--disable-store").code == 0
    assert tiny.build("app").report["bytes"]["imported"] > 0
    assert tiny.run_image("app") == "hello again\n"


def test_setting_variable_and_option_overrule_each_other(tiny: Tiny) -> None:
    tiny.see_store(seen=True)
    text = (tiny.project / "pyproject.toml").read_text()
    tiny.write("pyproject.toml", text.replace("[tool.buildkit]", '[tool.buildkit]\ndelivery = "import"'))
    assert "were copied" not in tiny.build("app").text, "the project wants it so"
    assert is_imported(tiny)
    tiny.tool("podman", "rmi", "--all")
    tiny.see_store(seen=True)
    tiny.build("app", BUILDKIT_DELIVERY="store")
    assert not is_imported(tiny)
    tiny.build("app", "--delivery", "import", BUILDKIT_DELIVERY="store")
    assert is_imported(tiny)


def test_unknown_delivery_is_refused(tiny: Tiny) -> None:
    built = tiny.run("build-app", BUILDKIT_DELIVERY="docer")
    assert (built.code, "BUILDKIT_DELIVERY=docer" in built.text) == (2, True)


def test_image_of_more_layers_than_podman_mounts_is_imported(tiny: Tiny) -> None:
    if not tiny.tool("podman", "--version").startswith("podman version 4"):
        pytest.skip("this podman mounts any number of layers")
    tiny.store = tiny.folder / "/".join("n" * 100 for _ in range(5)) / "store"
    tiny.env["BUILDKIT_STORE"] = str(tiny.store)
    tiny.store.mkdir(mode=0o700, parents=True)
    tiny.see_store(seen=True)
    built = tiny.build("app")
    assert f"{APP} is imported: " in built.text
    assert tiny.build("app").report["bytes"]["imported"] == 0
    assert tiny.run_image("app") == "hello from /app\n"
    assert is_imported(tiny)


def test_store_that_cannot_serve_the_storage_driver_is_not_used(tiny: Tiny) -> None:
    (tiny.folder / "storage.conf").write_text(_VFS.format(folder=tiny.folder))
    built = tiny.build("app", "--delivery", "store")
    assert "images are imported, not put into the image store: " in built.text
    assert "images are kept by `vfs`" in built.text
    assert not tiny.store.exists()
    tiny.tool("podman", "image", "exists", APP)


def test_store_that_went_away_is_made_again(tiny: Tiny) -> None:
    tiny.see_store(seen=True)
    tiny.store.rmdir()
    tiny.build("app")
    assert tiny.run_image("app") == "hello from /app\n"


def test_run_session_uses_podman_where_images_go_to_docker(tiny: Tiny) -> None:
    text = (tiny.project / "pyproject.toml").read_text()
    tiny.write("pyproject.toml", text.replace("[tool.buildkit]", '[tool.buildkit]\ndelivery = "docker"'))
    ran = tiny.run("run-app", DOCKER_HOST="unix:///nobody")
    assert ran.code == 0, ran.text


def test_images_of_earlier_versions_are_taken_over(tiny: Tiny) -> None:
    tiny.build("app")
    tiny.see_store(seen=True)
    explained = tiny.run("explain", "app").text
    assert re.search(r"^app/app +unpacked; built ", explained, re.MULTILINE)
    assert " again" not in explained
    assert tiny.build("app").built() == {}
    assert tiny.run_image("app") == "hello from /app\n"
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    assert set(tiny.build("app").built()) == {"app/app"}
    assert tiny.run_image("app") == "hello again\n"
    collected = tiny.run("cache", "gc", "--keep-days", "0")
    assert collected.code == 0, collected.text
    assert tiny.run_image("app") == "hello again\n"
