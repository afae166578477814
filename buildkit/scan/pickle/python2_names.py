"""Names of Python 2 that an unpickler maps to today's; protocols below 3 may hold them, every reader maps them."""

from __future__ import annotations

import _compat_pickle

MODULES: dict[str, str] = dict(_compat_pickle.IMPORT_MAPPING)
NAMES: dict[tuple[str, str], tuple[str, str]] = dict(_compat_pickle.NAME_MAPPING)


def python3_name(module: str, name: str) -> tuple[str, str]:
    """Where ``module.name`` is found today."""
    known = NAMES.get((module, name))
    return known or (MODULES.get(module, module), name)
