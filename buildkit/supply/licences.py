"""Map the licences that packages declare to SPDX expressions where they are unambiguous, and to names otherwise."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import HeaderParser
from itertools import pairwise

from buildkit.supply.components import Licence

_LONGEST = 200  # characters of a licence name: some packages put the whole text there
_CLASSIFIER = "License :: "
# classifiers that mean one licence; many ("BSD License", "GNU General Public License (GPL)") leave open which
_CLASSIFIED = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "zlib/libpng License": "Zlib",
}
# free-form names that are unambiguous
_WRITTEN = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "mpl 2.0": "MPL-2.0",
    "new bsd license": "BSD-3-Clause",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
}
# short names of Debian's copyright format that SPDX spells otherwise
_DEBIAN = {
    "expat": "MIT",
    "x11": "X11",
    "gfdl-1.3": "GFDL-1.3-only",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "apache-2": "Apache-2.0",
    "zope-2.1": "ZPL-2.1",
    "openldap-2.8": "OLDAP-2.8",
    "cc0": "CC0-1.0",
    "psf-2": "PSF-2.0",
}
_GNU = re.compile(r"(GPL|LGPL|AGPL|GFDL)-?(\d+)(\.\d+)?(\+?)", re.IGNORECASE)
_COPYRIGHT_FORMAT = re.compile(r"\AFormat:[^\n]*copyright-format", re.IGNORECASE)
_LICENCE_FIELD = re.compile(r"^License:[ \t]*([^\n]*)((?:\n[ \t][^\n]*)*)", re.MULTILINE | re.IGNORECASE)


def parse_metadata(text: str) -> Message:
    """Parse a wheel's METADATA (core metadata specification)."""
    return HeaderParser().parsestr(text)


def licence_of_metadata(metadata: Message) -> Licence:
    """Return the licence that METADATA declares, by the clearest field: License-Expression, classifiers, License."""
    declared = _one(metadata, "License-Expression")
    if expression := spdx_expression(declared):
        return Licence(expression=expression)
    classified = [
        line.removeprefix(_CLASSIFIER).removeprefix("OSI Approved :: ")
        for line in map(str, metadata.get_all("Classifier", []))
        if line.startswith(_CLASSIFIER) and line != f"{_CLASSIFIER}OSI Approved"
    ]
    known = [_CLASSIFIED.get(name, "") for name in classified]
    if known and all(known):
        return Licence(expression=" AND ".join(sorted(set(known))))  # classifiers cannot express "or"
    free = _one(metadata, "License")
    if expression := spdx_expression(_WRITTEN.get(free.lower(), free)):
        return Licence(expression=expression)
    names = {declared, *classified, free if len(free) <= _LONGEST and "\n" not in free else ""} - {"", "UNKNOWN"}
    if names:
        return Licence(names=tuple(sorted(names)))
    return Licence(missing="its metadata names none")


def licence_of_copyright(text: str) -> Licence:
    """Return all licences of a Debian ``copyright`` file, if it is in the machine-readable format (DEP 5)."""
    if not _COPYRIGHT_FORMAT.match(text.lstrip("\ufeff \t\r\n")):
        return Licence(missing="its copyright file is not machine-readable (DEP 5)")
    # without a short name, what follows says which it is: it must not be lost
    names = {_squeeze(name) or _squeeze(follows)[:_LONGEST] for name, follows in _LICENCE_FIELD.findall(text)} - {""}
    if not names:
        return Licence(missing="its copyright file names none")
    expressions = [debian_expression(name) for name in sorted(names)]
    if all(expressions):
        parts = {
            part
            for expression in expressions
            for part in ([expression] if " OR " in expression else expression.split(" AND "))
        }
        return Licence(expression=" AND ".join(sorted(_bracket(part) for part in parts)))
    return Licence(names=tuple(sorted(names)))


def spdx_expression(text: str) -> str:
    """Return ``text`` as a normalised SPDX expression of listed licences; empty if it is not one."""
    if not text or len(text) > _LONGEST or "\n" in text:
        return ""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        expression = str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return ""
    return "" if "LicenseRef-" in expression else expression  # its text is not available


def debian_expression(name: str) -> str:
    """Return the SPDX expression of a Debian short name (``GPL-2+ or Expat``); empty if a part of it has none."""
    words = re.split(r"\s*,?\s+(and|or)\s+|,\s*", name)
    parts = [word if word in ("and", "or") else _debian_licence(word) for word in words if word]
    if not all(parts) or any(a not in ("and", "or") and b not in ("and", "or") for a, b in pairwise(parts)):
        return ""
    return spdx_expression(" ".join(word.upper() if word in ("and", "or") else word for word in parts))


def _debian_licence(name: str) -> str:
    if gnu := _GNU.fullmatch(name):
        later = "-or-later" if gnu[4] else "-only"
        return f"{gnu[1].upper()}-{gnu[2]}{gnu[3] or '.0'}{later}"
    return spdx_expression(_DEBIAN.get(name.lower(), name))


def _bracket(expression: str) -> str:
    return f"({expression})" if " OR " in expression else expression


def _one(metadata: Message, field: str) -> str:
    return str(metadata.get(field, "")).strip()


def _squeeze(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
