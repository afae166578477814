"""What apt says when an archive fails it, in the words of a project."""

from __future__ import annotations

import re

from buildkit.errors import BuildError, FetchError, MismatchError, VersionsGoneError

_GONE = re.compile(r"^E: (?:Version '(?P<version>[^']*)' for '(?P<name>[^']*)' was not found"
                   r"|Unable to locate package (?P<unknown>\S+))", re.MULTILINE)  # fmt: skip
_UNREACHED = re.compile(r"^[EW]: Failed to fetch (?P<uri>\S+)", re.MULTILINE)
_OFFLINE = re.compile(r"Temporary failure resolving|Could not (?:connect|resolve)|Connection timed out")
_EXPIRED = re.compile(r"^E: Release file for (?P<uri>\S+) is expired \((?P<since>[^)]*)\)", re.MULTILINE)
_UNSIGNED = re.compile(r"^E: The repository '(?P<uri>\S+) [^']*' is not signed", re.MULTILINE)
_ABSENT = re.compile(r"^E: The repository '(?P<uri>\S+) [^']*' does not have a Release file", re.MULTILINE)
_NO_KEYS = re.compile(r"NO_PUBKEY|is not signed|couldn't be verified|Missing key")
_NO_APT = re.compile(r"\bapt-get: (?:command )?not found")
_OWN = ".debian.org/"


def find_gone(output: str, suite: str = "") -> VersionsGoneError | None:
    """Return the error for versions that the archive no longer has, if that is what apt's output says."""
    missing = [
        f"{match['name']}={match['version']}" if match["name"] else match["unknown"] for match in _GONE.finditer(output)
    ]
    if not missing:
        return None
    where = f" in {suite}" if suite else ""
    hint = (
        "nox -s lock -- --upgrade-apt takes the current versions; with `snapshot` in [root], a root is made from the "
        "archive of the day on which they were locked"
    )
    message = f"the archive no longer has {', '.join(missing)}{where}"
    names = tuple(name.partition("=")[0] for name in missing)
    return VersionsGoneError(message, hint=hint, output=output, names=names)


def find_failure(output: str, suite: str) -> BuildError | None:
    """Return the error for a root without apt, or an archive that is down, expired, missing or signed by another key.

    None for others.
    """
    if _NO_APT.search(output):
        return BuildError("the root has no apt", hint="add `apt` to the list that [root] names", output=output)
    if found := _EXPIRED.search(output):
        what = f"what {_folder(found['uri'])} publishes has expired ({found['since']})"
        hint = "its owner must publish anew; of Debian and Ubuntu, `snapshot` in [root] takes an earlier state"
        return FetchError(what, hint=hint, output=output)
    if found := _UNSIGNED.search(output):
        what = f"{found['uri']} is not signed by the key that is given for it"
        return MismatchError(what, hint=_key_hint(found["uri"]), output=output)
    if _NO_KEYS.search(output):
        return MismatchError(
            f"the archive of {suite} is not signed by a key of this host", hint=_key_hint(_OWN), output=output
        )
    if found := _ABSENT.search(output):
        hint = "check `uri` and `suite` of the archive, or the time that `snapshot` names"
        return FetchError(f"there is no archive at {found['uri']}", hint=hint, output=output)
    if (found := _UNREACHED.search(output)) or _OFFLINE.search(output):
        where = _folder(found["uri"]) if found else "the archive"
        hint = "check the network and the proxy settings, then run the same command again"
        return FetchError(f"{where} could not be reached for {suite}", hint=hint, output=output)
    return None


def _key_hint(uri: str) -> str:
    if _OWN in uri:
        return "install Debian's keys: sudo apt-get install debian-archive-keyring; or correct `key` in [root]"
    if ".ubuntu.com/" in uri:
        return "install Ubuntu's keys: sudo apt-get install ubuntu-keyring; or name their file as `key` in [root]"
    return "commit the archive's present public key, and name it as `key` of its [[root.source]]"


def _folder(uri: str) -> str:
    """Return the archive's URI, given that of a file in it."""
    return re.sub(r"/(?:dists/.*|InRelease|Release|Packages[^/]*)$", "", uri)
