"""The index settings of pip and uv, read as they read them.

pip: `global`, `user`, `site` files and ``PIP_CONFIG_FILE``, each overriding those before, then ``PIP_*``
(https://pip.pypa.io/en/stable/topics/configuration/). uv: ``/etc/uv``, the user's and the project's ``uv.toml`` or
``[tool.uv]``, then ``UV_*`` (https://docs.astral.sh/uv/concepts/configuration-files/). Both are used: a file that a
lock pins by hash may come from any of them. tests/tools/test_settings_contract.py compares every setting with the
installed pip and uv.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from buildkit.lazy_dataclass import dataclass
from buildkit.locks.model_source import HUB
from buildkit.tools.installer_files import home_folder, is_true, load_pip_file, load_uv_files, pip_config_files


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The settings of one tool; empty if not set. URLs may contain credentials: never print them."""

    index: str = ""
    extra: tuple[str, ...] = ()
    explicit: tuple[str, ...] = ()  # uv's: for packages only that a source assigns to them
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: str = ""
    client_cert: str = ""
    proxy: str = ""
    timeout: float = 0.0  # seconds
    no_index: bool = False
    strategy: str = ""  # uv's index-strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSources:
    """The settings of ``uv``, then of ``pip``. ``env_cert`` is the certificate file of other programs' variables.

    Places of files in locks of other tools are URLs, or paths relative to ``root``. ``hub`` is the URL of the model
    hub, and ``hub_token`` a secret for it.
    """

    pip: IndexSettings
    uv: IndexSettings
    env_cert: str = ""
    root: Path = Path()
    hub: str = HUB
    hub_token: str = field(default="", repr=False)

    @property
    def no_index(self) -> bool:
        """Whether only find-links may be used."""
        return self.pip.no_index or self.uv.no_index

    @property
    def index_urls(self) -> tuple[str, ...]:
        """Simple indexes (PEP 503) that a pinned file may come from; empty means the library's default."""
        if self.no_index:
            return ()
        return _once((*self.uv.extra, self.uv.index, *self.pip.extra, self.pip.index, *self.uv.explicit))

    @property
    def takes_best_of_all(self) -> bool:
        """Whether the best version of all indexes is taken, as by pip, and not that of the first that has the project.

        Anybody may publish a higher version of a private project's name in a public index, so this must be asked for.
        """
        return self.uv.strategy.startswith("unsafe") or bool(self.pip.extra and not (self.uv.extra or self.uv.strategy))

    @property
    def find_links(self) -> tuple[str, ...]:
        """Folders, files and pages with links; missing folders are left out, as pip does."""
        links = _once((*self.uv.find_links, *self.pip.find_links))
        return tuple(link for link in links if "://" in link or os.path.exists(link))  # noqa: PTH110 - raises nothing

    @property
    def needs_default(self) -> bool:
        """Whether the default index is used, because no setting replaces or forbids it."""
        return not (self.no_index or self.uv.index or self.pip.index)

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """Hosts whose certificates are not checked."""
        return _once((*self.uv.trusted_hosts, *self.pip.trusted_hosts))

    @property
    def cert(self) -> str:
        """The file or folder of certificate authorities, or the empty string for the system's."""
        return self.pip.cert or self.env_cert


def load_sources(root: Path, env: Mapping[str, str]) -> PackageSources:
    """Load the settings for the checkout ``root``. Raises DefinitionError for an invalid file."""
    certs = (env.get(name, "") for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    env_cert = next((cert for cert in certs if cert), "")
    return PackageSources(pip=load_pip_settings(env), uv=load_uv_settings(root, env), env_cert=env_cert, root=root,
        hub=env.get("HF_ENDPOINT", "").rstrip("/") or HUB, hub_token=env.get("HF_TOKEN", "").strip(),
    )  # fmt: skip


def load_pip_settings(env: Mapping[str, str]) -> IndexSettings:
    """Load pip's settings from its files and variables."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in pip_config_files(env):
        for section, read in load_pip_file(file).items():
            sections[section].update(read)
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in env.items()
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE"
    }
    # [install] of any file overrides [global] of every file; an empty value overrides nothing of another section
    values = {
        key: value
        for table in (sections["global"], sections["install"], variables)
        for key, value in table.items()
        if value
    }
    many = {key: tuple(values.get(key, "").split()) for key in ("extra-index-url", "find-links", "trusted-host")}
    return IndexSettings(
        index=values.get("index-url", ""),
        extra=many["extra-index-url"],
        find_links=tuple(_expanded(link, Path.cwd(), env) for link in many["find-links"]),
        trusted_hosts=many["trusted-host"],
        cert=values.get("cert", ""),
        client_cert=values.get("client-cert", ""),
        proxy=values.get("proxy", ""),
        timeout=_seconds(values.get("timeout") or values.get("default-timeout", "")),
        no_index=is_true(values.get("no-index", "")),
    )


def load_uv_settings(root: Path, env: Mapping[str, str]) -> IndexSettings:
    """Load uv's settings for the checkout ``root`` from its files and variables."""
    layers = [_uv_variables(env)]
    if not is_true(env.get("UV_NO_CONFIG", "")):
        layers.extend(_uv_table(table, file.parent, env) for file, table in load_uv_files(root, env))
    return IndexSettings(
        index=next((layer.index for layer in layers if layer.index), ""),
        extra=_once(url for layer in layers for url in layer.extra),
        explicit=_once(url for layer in layers for url in layer.explicit),
        find_links=_once(link for layer in layers for link in layer.find_links),
        trusted_hosts=_once(host for layer in layers for host in layer.trusted_hosts),
        client_cert=env.get("SSL_CLIENT_CERT", ""),
        no_index=any(layer.no_index for layer in layers),
        strategy=next((layer.strategy for layer in layers if layer.strategy), ""),
    )


def uv_environment(sources: PackageSources, default_index: str) -> dict[str, str]:
    """Return the variables that give uv the settings that only pip has.

    pip queries all indexes, the main one first, and takes the best file. uv queries the extra ones first and stops at
    the first that has the project, which fails if that index mirrors only some files of a version. So if only pip has
    extra indexes, uv gets them in pip's order and with pip's strategy.
    """
    pip, uv, added = sources.pip, sources.uv, dict[str, str]()
    if pip.extra and not sources.no_index:
        ordered = _once((*uv.extra, uv.index or pip.index or default_index, *pip.extra))
        added["UV_INDEX"] = " ".join(ordered[:-1])
        added["UV_DEFAULT_INDEX"] = ordered[-1]  # the index that uv queries last
        if not (uv.extra or uv.strategy):
            added["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    elif pip.index and not uv.index:
        added["UV_DEFAULT_INDEX"] = pip.index
    if sources.find_links:
        added["UV_FIND_LINKS"] = ",".join(sources.find_links)
    if sources.trusted_hosts:
        added["UV_INSECURE_HOST"] = " ".join(sources.trusted_hosts)
    if pip.no_index:
        added["UV_NO_INDEX"] = "1"
    if sources.cert:
        added["SSL_CERT_DIR" if Path(sources.cert).is_dir() else "SSL_CERT_FILE"] = sources.cert
    return added


def pip_environment(sources: PackageSources) -> dict[str, str]:
    """Return the variables that give pip and pip-compile the settings that only uv has."""
    uv, added = sources.uv, dict[str, str]()
    if uv.extra:
        added["PIP_EXTRA_INDEX_URL"] = " ".join(_once((*uv.extra, *sources.pip.extra)))
    if uv.index and not sources.pip.index:
        added["PIP_INDEX_URL"] = uv.index
    if uv.find_links:
        added["PIP_FIND_LINKS"] = " ".join(sources.find_links)
    if uv.trusted_hosts:
        added["PIP_TRUSTED_HOST"] = " ".join(sources.trusted_hosts)
    if uv.no_index:
        added["PIP_NO_INDEX"] = "1"
    return added


def host_of(url: str) -> str:
    """Return host and port of ``url``, or the path of a local one: the only parts that may be printed."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for item in items if item))


def _seconds(word: str) -> float:
    try:
        return max(float(word), 0.0) if word else 0.0
    except ValueError:
        return 0.0


def _expanded(link: str, folder: Path, env: Mapping[str, str]) -> str:
    if "://" in link:
        return link
    if link.startswith("~/"):
        link = str(home_folder(env) / link[2:])
    return os.path.normpath(folder / link)


def _uv_table(table: Mapping[str, Any], folder: Path, env: Mapping[str, str]) -> IndexSettings:
    merged = {**table, **table.get("pip", {})}
    indexes = [entry for entry in merged.get("index", ()) if isinstance(entry, dict) and entry.get("url")]
    flat = [entry["url"] for entry in indexes if entry.get("format") == "flat"]
    simple = [entry for entry in indexes if entry.get("format") != "flat"]
    default = [_with_credentials(entry, env) for entry in simple if entry.get("default")]
    others = [entry for entry in simple if not entry.get("default")]
    return IndexSettings(
        index=next(iter(default), str(merged.get("index-url", ""))),
        extra=(
            *(_with_credentials(entry, env) for entry in others if not entry.get("explicit")),
            *merged.get("extra-index-url", ()),
        ),
        explicit=tuple(_with_credentials(entry, env) for entry in others if entry.get("explicit")),
        find_links=tuple(_expanded(link, folder, env) for link in (*flat, *merged.get("find-links", ()))),
        trusted_hosts=tuple(merged.get("allow-insecure-host", ())),
        no_index=bool(merged.get("no-index", False)),
        strategy=str(merged.get("index-strategy", "")),
    )


def _uv_variables(env: Mapping[str, str]) -> IndexSettings:
    named = [_named_index(word, env) for word in env.get("UV_INDEX", "").split()]
    default = env.get("UV_DEFAULT_INDEX", "")
    links = env.get("UV_FIND_LINKS", "").split(",")
    return IndexSettings(
        index=_named_index(default, env) if default else env.get("UV_INDEX_URL", ""),
        extra=(*named, *env.get("UV_EXTRA_INDEX_URL", "").split()),
        find_links=tuple(_expanded(link.strip(), Path.cwd(), env) for link in links if link.strip()),
        trusted_hosts=tuple(env.get("UV_INSECURE_HOST", "").split()),
        no_index=is_true(env.get("UV_NO_INDEX", "")),
        strategy=env.get("UV_INDEX_STRATEGY", ""),
    )


def _named_index(word: str, env: Mapping[str, str]) -> str:
    name, has_name, url = word.partition("=")
    if not has_name or ":" in name or "/" in name:
        return word
    return _with_credentials({"name": name, "url": url}, env)


def _with_credentials(entry: Mapping[str, Any], env: Mapping[str, str]) -> str:
    """Return the index's URL with the credentials of ``UV_INDEX_NAME_USERNAME`` and ``…_PASSWORD``."""
    url = str(entry["url"])
    word = "".join(char if char.isalnum() else "_" for char in str(entry.get("name", ""))).upper()
    user, password = env.get(f"UV_INDEX_{word}_USERNAME", ""), env.get(f"UV_INDEX_{word}_PASSWORD", "")
    parts = urlsplit(url)
    if not word or not (user or password) or "@" in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"))
