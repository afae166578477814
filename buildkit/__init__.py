"""buildkit composes machine-learning container images from locks (distribution ``xoe-buildkit``)."""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Return ``__version__``, the version of the installed distribution, which takes a search of the environment."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xoe-buildkit")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
