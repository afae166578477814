"""The target that wheels must fit; it is declared, and never the host's own Python."""

from __future__ import annotations

from dataclasses import field

from buildkit.lazy_dataclass import dataclass

_DEB_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHES = tuple(_DEB_ARCH)
ARCH_NAMES = {name: arch for arch, deb in _DEB_ARCH.items() for name in (arch, deb)}
"""Processors by the kernel's names and by those of Debian and OCI."""
STANDALONE = "/opt/python"
"""Where a Python that no root has is, in every image."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of a container whose image sets none, as container runtimes have it."""


def deb_arch_of(arch: str) -> str:
    """Return a processor as Debian and OCI name it; empty for one that no image can be for."""
    return _DEB_ARCH.get(arch, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Python, C library and processor of the images.

    ``python`` is ``3.13`` or ``3.13.5``; ``glibc`` is ``2.41``; ``arch`` is the kernel's name (``x86_64``,
    ``aarch64``). Wheels are installed into the virtual environment ``prefix`` and run by ``interpreter``. The root has
    that, or a layer of its own if it is ``standalone``. With ``sees_system``, that environment sees the packages that
    the interpreter has.
    ``lock_arch`` is the processor in the names of locks that each has its own of: empty for the first of a project.
    """

    python: str
    glibc: str
    arch: str
    prefix: str = "/opt/venv"
    interpreter: str = "/usr/bin/python3"
    standalone: bool = False
    sees_system: bool = False
    lock_arch: str = field(default="", repr=False)

    @property
    def minor(self) -> str:
        """The version without the patch level: ``3.13``."""
        return ".".join(self.python.split(".")[:2])

    @property
    def is_exact(self) -> bool:
        """Whether the version has its patch level."""
        return self.python != self.minor

    @property
    def version(self) -> tuple[int, int]:
        """The version as numbers: ``(3, 13)``."""
        major, minor = self.minor.split(".")
        return int(major), int(minor)

    @property
    def deb_arch(self) -> str:
        """The processor as Debian and OCI name it: ``amd64``, ``arm64``."""
        return _DEB_ARCH[self.arch]

    @property
    def site_packages(self) -> str:
        """The folder of pure and platform modules, relative to the image's root."""
        return f"{self.prefix.lstrip('/')}/lib/python{self.minor}/site-packages"

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags: the newest manylinux that the C library allows (PEP 600) first, plain linux last."""
        major, newest = (int(part) for part in self.glibc.split("."))
        oldest = 5 if self.arch == "x86_64" else 17
        legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        tags: list[str] = []
        for minor in range(newest, oldest - 1, -1):
            tags.append(f"manylinux_{major}_{minor}_{self.arch}")
            if minor in legacy:
                tags.append(f"{legacy[minor]}_{self.arch}")
        return (*tags, f"linux_{self.arch}")

    @property
    def markers(self) -> dict[str, str]:
        """The marker environment (PEP 508) of an image with this target."""
        full = self.python if self.is_exact else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.minor,
            "sys_platform": "linux",
        }
