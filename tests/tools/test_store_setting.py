"""Editing storage.conf; the tools themselves are asked in tests/doctor/test_doctor_image_store.py."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.tools import store_setting
from buildkit.tools.storage_settings import ROOTS, find_storage_hint, is_listed
from buildkit.tools.store_setting import SettingChange, plan_disabling, plan_enabling, try_setting, write_setting

STORE = Path("/data/store")
DEBIAN = """# This file is the configuration of containers/storage.
[storage]
driver = "overlay" # the default
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"

[storage.options]
# Storage options to be passed
# AdditionalImageStores is used to pass paths of read-only stores.
additionalimagestores = [
  # the team's
  "/mnt/team", # mounted by autofs
]

[storage.options.overlay]
mountopt = "nodev,metacopy=on" # as shipped
"""
FORMS = {
    "commented": DEBIAN,
    "empty": "",
    "no options": '[storage]\ndriver = "overlay"\n',
    "overlay options": '[storage]\ndriver = "overlay"\n# why\n[storage.options.overlay]\nmountopt = "nodev"\n',
    "no driver": '[storage.options]\n# about\npull_options = {enable_partial_images = "true"}\n',
    "dotted": 'storage.driver = "overlay"\nstorage.options.size = ""\n',
    "inline": 'storage = {driver = "overlay"} # short\n',
    "empty list": '[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = [ ]\n',
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "storage.conf"
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path))
    monkeypatch.delenv("STORAGE_DRIVER", raising=False)
    return path


def stores(path: Path) -> list[str]:
    found: list[str] = tomllib.loads(path.read_text())["storage"]["options"]["additionalimagestores"]
    return found


@pytest.mark.parametrize("form", FORMS)
def test_everything_else_in_the_file_stays(form: str, conf: Path) -> None:
    conf.write_text(FORMS[form])
    before = tomllib.loads(FORMS[form])
    write_setting(plan_enabling(STORE))
    assert stores(conf)[-1] == str(STORE)
    assert tomllib.loads(conf.read_text())["storage"]["driver"] == "overlay"  # buildah fails without
    comments = [line.partition("#")[2] for line in FORMS[form].splitlines() if "#" in line]
    assert all(comment in conf.read_text() for comment in comments)
    assert not plan_enabling(STORE)
    write_setting(plan_disabling(STORE))
    assert all(comment in conf.read_text() for comment in comments)
    after = tomllib.loads(conf.read_text())
    after["storage"].setdefault("options", {}).pop("additionalimagestores", None)
    before.setdefault("storage", {}).setdefault("options", {}).pop("additionalimagestores", None)
    demanded = {"driver": "overlay", **(ROOTS if os.geteuid() == 0 else {})}
    assert after["storage"] == {**demanded, **before["storage"]} | (
        {"options": {**before["storage"]["options"], "additionalimagestores": ["/mnt/team"]}}
        if form == "commented" and after["storage"]["options"].get("additionalimagestores")
        else {}
    )
    assert not plan_disabling(STORE)


def test_other_stores_stay_beside_ours(conf: Path) -> None:
    conf.write_text(DEBIAN)
    change = plan_enabling(STORE)
    assert change.lines == (f"additionalimagestores += {STORE}",)
    write_setting(change)
    assert stores(conf) == ["/mnt/team", str(STORE)]
    added = set(conf.read_text().splitlines()) ^ set(DEBIAN.splitlines())
    assert [line.strip() for line in added] == [f'"{STORE}",']
    write_setting(plan_disabling(STORE))
    assert conf.read_text() == DEBIAN


@pytest.mark.parametrize("text", ['[storage]\ndriver = "vfs"\n', '[storage]\ndriver = "btrfs"\n'])
def test_drivers_that_take_no_stores_are_refused(text: str, conf: Path) -> None:
    conf.write_text(text)
    with pytest.raises(BuildError, match=r"storage\.conf: images are kept by `(vfs|btrfs)`"):
        plan_enabling(STORE)
    assert conf.read_text() == text


@pytest.mark.parametrize("stores", ['"/mnt/team"', "[1]"])
def test_stores_that_are_no_list_of_paths_are_named(stores: str, conf: Path) -> None:
    text = f'[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = {stores}\n'
    conf.write_text(text)
    with pytest.raises(BuildError, match=r"storage\.conf: `additionalimagestores` is not a list of paths"):
        plan_enabling(STORE)
    assert conf.read_text() == text


def test_line_ends_stay(conf: Path) -> None:
    conf.write_bytes(DEBIAN.replace("\n", "\r\n").encode())
    write_setting(plan_enabling(STORE))
    assert conf.read_bytes().replace(b"\r\n", b"").count(b"\n") <= 1, "one line is new"
    write_setting(plan_disabling(STORE))
    assert conf.read_bytes() == DEBIAN.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("content", [b"[storage\n", b"driver = '\xff'\n"])
def test_file_that_is_not_toml_is_named(content: bytes, conf: Path) -> None:
    conf.write_bytes(content)
    for plan in (plan_enabling, plan_disabling):
        with pytest.raises(BuildError, match=r"storage\.conf is not (TOML|UTF-8)"):
            plan(STORE)
    assert conf.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("storage = 3\n", "`storage` is not a table"),
        ("[storage]\ndriver = 3\n", "`storage.driver` is not a string"),
        ("[storage]\noptions = 4\n", "`storage.options` is not a table"),
        ("storage.options.additionalimagestores = '/data/store'\n", "`additionalimagestores` is not a list of paths"),
        (
            "storage.options.additionalimagestores = ['/data/store', 3]\n",
            "`additionalimagestores` is not a list of paths",
        ),
    ],
)
def test_value_of_another_type_is_named_by_all_who_read_the_file(text: str, why: str, conf: Path) -> None:
    conf.write_text(text)
    for read in (plan_enabling, plan_disabling, is_listed):
        with pytest.raises(BuildError, match=f"storage\\.conf: {why}"):
            read(STORE)
    assert conf.read_text() == text


def test_file_that_the_environment_names_must_exist(conf: Path) -> None:
    with pytest.raises(
        BuildError, match=r"CONTAINERS_STORAGE_CONF names \S*storage\.conf, which does not exist"
    ) as raised:
        is_listed(STORE)
    assert "unset CONTAINERS_STORAGE_CONF" in raised.value.hint
    conf.mkdir()
    with pytest.raises(BuildError, match=r"storage\.conf cannot be read: Is a directory"):
        is_listed(STORE)


def test_store_of_others_that_does_not_exist_is_named_and_ours_is_made(conf: Path, tmp_path: Path) -> None:
    other = tmp_path / "team"
    conf.write_text(f"storage.options.additionalimagestores = ['{other}', '{STORE}']\n")
    with pytest.raises(BuildError, match=rf"storage\.conf names {other}, which does not exist") as raised:
        is_listed(STORE)
    assert raised.value.hint.startswith(f"mkdir -p {other}, or take it out")
    other.mkdir()
    assert is_listed(STORE)


def test_keys_that_the_tools_miss_are_added_to_a_file_that_names_the_store(conf: Path) -> None:
    conf.write_text(f"storage.options.additionalimagestores = ['{STORE}']\n")
    assert find_storage_hint('level=fatal msg="runroot must be set"').startswith(f"{conf} lacks keys")
    assert find_storage_hint("another error") == ""
    write_setting(plan_enabling(STORE))
    assert tomllib.loads(conf.read_text())["storage"]["driver"] == "overlay"
    assert stores(conf) == [str(STORE)]


def test_line_is_given_where_the_file_cannot_be_edited(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> str:
        raise ValueError("it cannot be edited")

    conf.write_text(DEBIAN)
    monkeypatch.setattr(store_setting, "edit_toml", refuse)
    with pytest.raises(BuildError, match="cannot be edited") as raised:
        plan_enabling(STORE)
    assert 'additionalimagestores = ["/mnt/team", "/data/store"]' in raised.value.hint


def test_file_in_a_place_that_is_read_only_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", "/proc/storage.conf")
    with pytest.raises(BuildError, match=r"/proc/storage\.conf cannot be written"):
        write_setting(plan_enabling(STORE))


def test_link_and_mode_of_the_file_stay(conf: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.conf"
    real.write_text(DEBIAN)
    real.chmod(0o640)
    conf.symlink_to(real)
    write_setting(plan_enabling(STORE))
    assert (conf.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o640)
    assert str(STORE) in real.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dotfiles.conf", "storage.conf"]


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("shipped", ["", DEBIAN])
def test_new_file_names_what_the_tools_demand(
    user: int, shipped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file replaces the distribution's for root, and joins no other: its content must be copied."""
    etc, usr, home = tmp_path / "etc.conf", tmp_path / "usr.conf", tmp_path / "config"
    if shipped:
        usr.write_text(shipped)
    for name, value in {"_ETC": etc, "_DISTRIBUTION": usr}.items():
        monkeypatch.setattr(store_setting, name, value)
    monkeypatch.setattr(store_setting, "find_settings_file", lambda: usr if shipped and not user else None)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    change = plan_enabling(STORE)
    assert change.file == (home / "containers/storage.conf" if user else etc)
    written = tomllib.loads(change.after or "")["storage"]
    if user:
        assert written == {"driver": "overlay", "options": {"additionalimagestores": [str(STORE)]}}
    elif shipped:
        assert change.after == DEBIAN.replace("autofs\n", f'autofs\n  "{STORE}",\n')
    else:
        assert {"driver", "graphroot", "runroot"} < set(written)


def test_driver_of_the_distribution_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "usr.conf"
    shipped.write_text('[storage]\ndriver = "btrfs"\n')
    monkeypatch.setattr(store_setting, "_DISTRIBUTION", shipped)
    monkeypatch.setattr(store_setting, "find_settings_file", lambda: shipped)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(store_setting, "_ETC", tmp_path / "etc.conf")
    with pytest.raises(BuildError, match="`btrfs`"):
        plan_enabling(STORE)


def test_images_that_overlay_would_hide_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("CONTAINERS_STORAGE_CONF", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    storage = tmp_path / "containers/storage"
    (storage / "vfs-images").mkdir(parents=True)
    with pytest.raises(BuildError, match="`vfs`"):
        plan_enabling(STORE)
    (storage / "overlay-images").mkdir()
    assert plan_enabling(STORE)


def test_file_is_as_it_was_if_the_tools_fail(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for before in (None, DEBIAN):
        if before:
            conf.write_text(before)
        with pytest.raises(BuildError):
            try_setting(SettingChange(file=conf, before=before, after="[storage]\n"), STORE)
        assert (conf.read_text() if conf.exists() else None) == before
