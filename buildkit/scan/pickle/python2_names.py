"""Python 2 names that unpicklers map to Python 3 names. Protocols below 3 may hold them; every reader maps them."""

from __future__ import annotations

import _compat_pickle

MODULES: dict[str, str] = dict(_compat_pickle.IMPORT_MAPPING)
NAMES: dict[tuple[str, str], tuple[str, str]] = dict(_compat_pickle.NAME_MAPPING)


def python3_name(module: str, name: str) -> tuple[str, str]:
    """Return module and name of ``module.name`` in Python 3."""
    known = NAMES.get((module, name))
    return known or (MODULES.get(module, module), name)
