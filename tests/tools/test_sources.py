"""The index settings of pip and uv, and how each tool gets the other's."""

import pytest

from buildkit.errors import DefinitionError
from buildkit.tools.index_settings import (
    IndexSettings,
    PackageSources,
    host_of,
    load_sources,
    pip_environment,
    uv_environment,
)

MAIN = "https://main.example/simple"


@pytest.fixture
def env(tmp_path, monkeypatch):
    """An environment whose files are all below ``tmp_path``."""
    monkeypatch.setattr("buildkit.tools.installer_files._ETC", tmp_path / "etc")
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/uv").mkdir(parents=True)
    return {
        "HOME": str(home),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_CONFIG_FILE": str(tmp_path / "named.conf"),
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_pip_variables_override_files(env, root, tmp_path):
    user = tmp_path / "home/.config/pip/pip.conf"
    user.write_text(
        f"[global]\nindex-url = {MAIN}\nextra-index-url =\n    https://a.example/s\n    https://b.example/s\n"
        "trusted-host = a.example\ntimeout = 33\n[install]\nproxy = http://proxy.example:3128\n"
    )
    pip = load_sources(root, env).pip
    assert pip.index == MAIN
    assert pip.extra == ("https://a.example/s", "https://b.example/s")
    assert pip.trusted_hosts == ("a.example",)
    assert (pip.timeout, pip.proxy) == (33, "http://proxy.example:3128")
    pip = load_sources(root, {**env, "PIP_INDEX_URL": "https://env.example/s", "PIP_EXTRA_INDEX_URL": ""}).pip
    assert pip.index == "https://env.example/s"
    assert len(pip.extra) == 2


def test_pip_config_file_replaces_user_files(env, root, tmp_path):
    (tmp_path / "home/.config/pip/pip.conf").write_text(f"[global]\nindex-url = {MAIN}\n")
    (tmp_path / "named.conf").write_text("[global]\nextra-index-url = https://n.example/s\n")
    pip = load_sources(root, env).pip
    assert (pip.index, pip.extra) == ("", ("https://n.example/s",))


def test_pip_config_file_dev_null_disables_files(env, root, tmp_path):
    (tmp_path / "home/.config/pip/pip.conf").write_text(f"[global]\nindex-url = {MAIN}\n")
    assert load_sources(root, {**env, "PIP_CONFIG_FILE": "/dev/null"}).pip == IndexSettings()


def test_invalid_pip_file_is_named(env, root, tmp_path):
    (tmp_path / "named.conf").write_text("index-url = x\n")
    with pytest.raises(DefinitionError, match=r"named\.conf"):
        load_sources(root, env)


def test_uv_settings_combine_variables_project_and_user_files(env, root, tmp_path):
    (root / "pyproject.toml").write_text(
        '[tool.uv]\nfind-links = ["vendor"]\n[[tool.uv.index]]\nname = "team-a"\nurl = "https://team.example/s"\n'
        f'[[tool.uv.index]]\nurl = "{MAIN}"\ndefault = true\n'
        '[[tool.uv.index]]\nurl = "https://flat.example/all"\nformat = "flat"\n'
    )
    (tmp_path / "home/.config/uv/uv.toml").write_text(
        'index-url = "https://lost.example/s"\nextra-index-url = ["https://user.example/s"]\n'
        '[pip]\nindex-strategy = "unsafe-best-match"\n'
    )
    more = {
        "UV_INDEX": "corp=https://corp.example/s",
        "UV_INDEX_TEAM_A_USERNAME": "me",
        "UV_INDEX_TEAM_A_PASSWORD": "p@ss",
        "UV_INSECURE_HOST": "corp.example",
        "UV_FIND_LINKS": "https://x.example/l,/nowhere",
    }
    uv = load_sources(root, {**env, **more}).uv
    assert uv.index == MAIN
    assert uv.extra == ("https://corp.example/s", "https://me:p%40ss@team.example/s", "https://user.example/s")
    assert uv.find_links == ("https://x.example/l", "/nowhere", "https://flat.example/all", str(root / "vendor"))
    assert uv.trusted_hosts == ("corp.example",)
    assert uv.strategy == "unsafe-best-match"
    assert load_sources(root, {**env, **more, "UV_NO_CONFIG": "1"}).uv.index == ""


def test_uv_default_index_variable_overrides_files(env, root):
    (root / "uv.toml").write_text('index-url = "https://file.example/s"\n')
    assert load_sources(root, {**env, "UV_DEFAULT_INDEX": MAIN}).uv.index == MAIN


def test_indexes_of_pip_and_uv_are_combined_and_missing_folders_ignored(tmp_path):
    sources = PackageSources(
        pip=IndexSettings(extra=("https://p.example/s",), find_links=(str(tmp_path), "/nowhere")),
        uv=IndexSettings(extra=("https://u.example/s", "https://p.example/s")),
    )
    assert sources.index_urls == ("https://u.example/s", "https://p.example/s")
    assert sources.find_links == (str(tmp_path),)
    assert sources.needs_default
    assert not PackageSources(pip=IndexSettings(index=MAIN), uv=IndexSettings()).needs_default


def test_no_index_forbids_all_indexes():
    sources = PackageSources(
        pip=IndexSettings(no_index=True, extra=("https://p.example/s",)), uv=IndexSettings(index=MAIN)
    )
    assert sources.index_urls == ()
    assert not sources.needs_default


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"])
def test_certificate_variables_are_read_in_order(env, root, name):
    assert load_sources(root, {**env, "CURL_CA_BUNDLE": "/other", name: "/ca.pem"}).cert == "/ca.pem"


def test_uv_environment_has_pip_indexes_in_pip_order():
    added = uv_environment(
        PackageSources(pip=IndexSettings(extra=("https://a/s", "https://b/s")), uv=IndexSettings()), MAIN
    )
    assert added["UV_INDEX"].split() == [MAIN, "https://a/s"]
    assert added["UV_DEFAULT_INDEX"] == "https://b/s"
    assert added["UV_INDEX_STRATEGY"] == "unsafe-best-match"


@pytest.mark.parametrize(("is_folder", "variable"), [(True, "SSL_CERT_DIR"), (False, "SSL_CERT_FILE")])
def test_uv_environment_has_pips_certificates_by_file_or_folder(tmp_path, is_folder, variable):
    cert = tmp_path if is_folder else tmp_path / "ca.pem"
    sources = PackageSources(pip=IndexSettings(cert=str(cert)), uv=IndexSettings())
    assert uv_environment(sources, MAIN) == {variable: str(cert)}


def test_uv_environment_keeps_uv_settings():
    uv = IndexSettings(extra=("https://u/s",), strategy="first-index")
    assert uv_environment(PackageSources(pip=IndexSettings(), uv=uv), MAIN) == {}
    added = uv_environment(PackageSources(pip=IndexSettings(extra=("https://a/s",)), uv=uv), MAIN)
    assert "UV_INDEX_STRATEGY" not in added
    assert added["UV_INDEX"].split() == ["https://u/s", MAIN]


def test_pip_environment_has_uv_indexes():
    uv = IndexSettings(index=MAIN, extra=("https://u/s",), trusted_hosts=("u",))
    added = pip_environment(PackageSources(pip=IndexSettings(extra=("https://a/s",)), uv=uv))
    assert added == {"PIP_EXTRA_INDEX_URL": "https://u/s https://a/s", "PIP_INDEX_URL": MAIN, "PIP_TRUSTED_HOST": "u"}


def test_host_of_url_contains_no_credentials():
    url = "https://me:secret@h.example:8080/a/b.whl?token=secret#sha256=secret"
    assert host_of(url) == "h.example:8080"
