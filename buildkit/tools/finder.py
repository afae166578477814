"""unearth's finder for a target and the sources of the settings; only this, `indexes` and `pin_finder` import it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from buildkit.declare.target import Target
from buildkit.tools.http import HttpSession
from buildkit.tools.index_settings import PackageSources

if TYPE_CHECKING:
    from unearth import PackageFinder, TargetPython
    from unearth.fetchers import Fetcher


def make_finder(sources: PackageSources, session: HttpSession, target: Target) -> PackageFinder:
    """Return unearth's finder for ``target`` over all ``sources``."""
    from unearth import PackageFinder

    fetcher = as_fetcher(session)
    finder = PackageFinder(fetcher, index_urls=sources.index_urls, target_python=make_target_python(target))
    if sources.no_index:
        finder.sources.clear()  # unearth adds the default index if it gets none
    elif sources.index_urls and sources.needs_default:
        finder.add_index_url(default_index())
    for number, link in enumerate(sources.find_links):
        finder.sources.insert(number, {"url": link, "type": "find_links"})
    return finder


def default_index() -> str:
    """Return unearth's default index."""
    from unearth import PackageFinder

    return str(PackageFinder().sources[0]["url"])


@cache
def make_target_python(target: Target) -> TargetPython:
    """Return the target for unearth. The ABI is explicit; unearth would guess it from the host's Python.

    It is made once, because it remembers the tags of wheels that fit: to list them takes as long as to judge a package.
    """
    from unearth import TargetPython

    version = tuple(int(part) for part in target.python.split("."))
    abi = "cp{}{}".format(*target.version)
    return TargetPython(py_ver=version, abis=[abi], impl="cp", platforms=list(target.platforms))


def as_fetcher(session: HttpSession) -> Fetcher:
    """Return the session as what unearth fetches pages with."""
    return cast("Fetcher", session)  # httpx2's response differs slightly from the protocol's
