"""The archives of a root as apt reads them: sources in deb822 style (sources.list(5)).

Keys of the project are part of the text, so it depends on no path, and apt in the root trusts the same archives. Such
keys are read by apt 2.4 (Debian 12, Ubuntu 22.04) and later.
"""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.declare.apt_archives import USUAL, Archives, PublicKey
from buildkit.lazy_dataclass import dataclass

FILE_NAME = "archives.sources"

_ROLLING = ("sid", "unstable", "experimental")
_UBUNTU = frozenset(("jammy", "noble", "plucky", "questing", "resolute"))
_REPLACING = "# in place of the archives of the image\n"
_UBUNTU_COMPONENTS = ("main", "restricted", "universe", "multiverse")
_KEYRING = "/usr/share/keyrings/{}-archive-keyring.gpg"
_PORTS = ("arm64", "armhf", "ppc64el", "riscv64", "s390x")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    """The archive of a distribution for some suites, now and at a moment."""

    now: str
    moments: str  # the moment comes after it
    suites: tuple[str, ...]
    keyring: str


def is_ubuntu(suite: str) -> bool:
    """Tell whether the suite is Ubuntu's."""
    return suite in _UBUNTU


def render_sources(suite: str, components: tuple[str, ...], archives: Archives, arch: str) -> str:
    """Return the text of ``archives.sources``, empty for the archives that mmdebstrap knows; ``arch`` is Debian's."""
    if archives == USUAL:
        return ""
    return _render_all(_ubuntu(suite, arch) if is_ubuntu(suite) else _debian(suite), components, archives)


def render_image_sources(distribution: str, codename: str, archives: Archives, arch: str) -> str:
    """Return the text for an image of a registry, empty for the archives that it has.

    Further archives are added to the image's; with a snapshot or a key, all are named, and take their place.
    """
    if not (archives.snapshot or archives.key):
        return _render_all(iter(()), (), archives)
    return _REPLACING + _render_distribution(distribution, codename, archives, arch)


def is_replacing(sources: str) -> bool:
    """Tell whether the text of ``render_image_sources`` takes the place of the archives that an image has."""
    return sources.startswith(_REPLACING)


def _render_distribution(distribution: str, codename: str, archives: Archives, arch: str) -> str:
    if distribution == "ubuntu":
        return _render_all(_ubuntu(codename, arch), _UBUNTU_COMPONENTS, archives)
    return _render_all(_debian(codename), ("main",), archives)


def _render_all(own: Iterator[_Archive], components: tuple[str, ...], archives: Archives) -> str:
    rendered = (
        _render(
            f"{archive.moments}/{archives.snapshot}" if archives.snapshot else archive.now,
            archive.suites,
            components,
            archives.key or archive.keyring,
            valid_now=not archives.snapshot,
        )
        for archive in own
    )
    others = (_render(source.uri, (source.suite,), source.components, source.key) for source in archives.sources)
    return "\n".join((*rendered, *others))


def _debian(suite: str) -> Iterator[_Archive]:
    snapshots = "http://snapshot.debian.org/archive"
    updates = () if suite in _ROLLING else (f"{suite}-updates",)
    for host, name, suites in (
        ("deb", "debian", (suite, *updates)),
        ("security", "debian-security", (f"{suite}-security",) if updates else ()),
    ):
        if suites:
            now = f"http://{host}.debian.org/{name}"
            yield _Archive(now=now, moments=f"{snapshots}/{name}", suites=suites, keyring=_KEYRING.format("debian"))


def _ubuntu(suite: str, arch: str) -> Iterator[_Archive]:
    snapshots = "https://snapshot.ubuntu.com/ubuntu"
    now = "http://ports.ubuntu.com/ubuntu-ports" if arch in _PORTS else "http://archive.ubuntu.com/ubuntu"
    suites = (suite, f"{suite}-updates", f"{suite}-security")
    yield _Archive(now=now, moments=snapshots, suites=suites, keyring=_KEYRING.format("ubuntu"))


def _render(
    uri: str, suites: tuple[str, ...], components: tuple[str, ...], key: PublicKey | str, *, valid_now: bool = True
) -> str:
    """Return a stanza; ``key`` is a key, or the path of a keyring that is installed on the host and in the root."""
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {' '.join(suites)}"]
    if components:
        lines.append(f"Components: {' '.join(components)}")
    if not valid_now:
        lines.append("Check-Valid-Until: no")
    if isinstance(key, str):
        lines.append(f"Signed-By: {key}")
    else:
        lines += ["Signed-By:", *(f" {line or '.'}" for line in key.text.splitlines())]
    return "".join(f"{line}\n" for line in lines)
