"""Settings of registries: registries.conf(5) with its drop-in files, and containers-policy.json(5).

Read as containers/image does (pkg/sysregistriesv2): the user's file replaces the system's, a drop-in replaces entries
of the same prefix, and the longest prefix of a repository wins. What is not understood is left to skopeo.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.skopeo import find_policy

AUTH_FILES = "containers-auth.json"
_SYSTEM = Path("/etc/containers")
_SOURCES = {"dir": "a folder", "docker": "a registry"}
_KNOWN = frozenset(("prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRule:
    """A ``[[registry]]``: repositories below ``prefix``. A ``rewritten`` one is read from elsewhere, never written."""

    prefix: str
    insecure: bool = False
    blocked: bool = False
    rewritten: bool = False

    def matches(self, repository: str) -> bool:
        """Return whether ``HOST/PATH`` is below the prefix; ``*.example.com`` stands for all subdomains."""
        host = repository.partition("/")[0].partition(":")[0]
        if self.prefix.startswith("*."):
            return host.endswith(self.prefix[1:])
        rest = repository.removeprefix(self.prefix)
        return repository.startswith(self.prefix) and rest[:1] in ("", "/", ":")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesConf:
    """All rules, and the credential helpers in the order in which they are asked."""

    rules: Mapping[str, RegistryRule]
    helpers: tuple[str, ...] = (AUTH_FILES,)

    def rule(self, repository: str) -> RegistryRule:
        """Return the rule of ``HOST/PATH`` with the longest prefix."""
        matching = [rule for rule in self.rules.values() if rule.matches(repository)]
        return max(matching, key=lambda rule: len(rule.prefix), default=RegistryRule(prefix=""))


def load_registries_conf() -> RegistriesConf:
    """Read the settings of this user; raises LeftToSkopeo for files that cannot be read or understood."""
    rules: dict[str, RegistryRule] = {}
    helpers: tuple[str, ...] = (AUTH_FILES,)
    for path in _files():
        try:
            value = tomllib.loads(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise LeftToSkopeo(f"{path} cannot be read") from error
        rules |= _read_rules(path, value)
        helpers = tuple(_texts(path, value, "credential-helpers")) or helpers
    return RegistriesConf(rules=rules, helpers=helpers)


def check_policy(transport: str) -> None:
    """Raise LeftToSkopeo unless containers-policy.json(5) lets any image be copied from a transport (``docker``)."""
    path = find_policy()
    if path is None:
        return
    try:
        policy = json.loads(path.read_bytes())
        scopes = policy.get("transports", {}).get(transport, {"": policy["default"]})
        kinds = {requirement["type"] for requirement in scopes.get("", policy["default"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeftToSkopeo(f"{path} cannot be read") from error
    if kinds != {"insecureAcceptAnything"} or scopes.keys() != {""}:
        raise LeftToSkopeo(f"{path} restricts what is copied from {_SOURCES[transport]}")


def _files() -> Iterator[Path]:
    user = Path.home() / ".config/containers"
    explicit = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    own = (user / "registries.conf").exists()
    if explicit:
        if not Path(explicit).exists():
            raise LeftToSkopeo(f"CONTAINERS_REGISTRIES_CONF names {explicit}, which does not exist")
        yield Path(explicit)
    else:
        yield (user if own else _SYSTEM) / "registries.conf"
    for folder in (user,) if own and not explicit else (_SYSTEM, user):
        yield from sorted((folder / "registries.conf.d").glob("*.conf"))


def _read_rules(path: Path, value: Mapping[str, Any]) -> dict[str, RegistryRule]:
    if "registries" in value:
        raise LeftToSkopeo(f"{path} has the first version of registries.conf(5)")
    entries = value.get("registry", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise LeftToSkopeo(f"{path}: `registry` is not a list of tables")
    found: dict[str, RegistryRule] = {}
    for entry in entries:
        rule = _read_rule(path, entry)
        found.setdefault(rule.prefix, rule)
    return found


def _read_rule(path: Path, entry: Mapping[str, Any]) -> RegistryRule:
    if unknown := sorted(entry.keys() - _KNOWN):
        raise LeftToSkopeo(f"{path}: `{unknown[0]}` of a registry is not known here")
    location, prefix = (str(entry.get(key, "")).rstrip("/") for key in ("location", "prefix"))
    flags = [entry.get(key, False) for key in ("insecure", "blocked")]
    if "://" in location + prefix or not (location or prefix) or not all(type(flag) is bool for flag in flags):
        raise LeftToSkopeo(f"{path}: a registry is not described as registries.conf(5) says")
    prefix = prefix or location
    rewritten = location not in ("", prefix) or bool(entry.get("mirror"))
    return RegistryRule(prefix=prefix, insecure=flags[0], blocked=flags[1], rewritten=rewritten)


def _texts(path: Path, value: Mapping[str, Any], key: str) -> list[str]:
    texts = value.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise LeftToSkopeo(f"{path}: `{key}` is not a list of texts")
    return texts
