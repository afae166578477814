"""Licences that packages declare, without guesses."""

import pytest

from buildkit.supply.components import Licence
from buildkit.supply.licences import debian_expression, licence_of_copyright, licence_of_metadata, parse_metadata

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def of(*lines):
    return licence_of_metadata(parse_metadata("Metadata-Version: 2.4\nName: x\n" + "".join(f"{x}\n" for x in lines)))


@pytest.mark.parametrize(
    ("lines", "expression"),
    [
        (["License-Expression: mit or apache-2.0"], "MIT OR Apache-2.0"),
        (["License-Expression: MIT", "Classifier: License :: OSI Approved :: BSD License"], "MIT"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["Classifier: License :: OSI Approved", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: Apache Software License",
            ],
            "Apache-2.0 AND MIT",
        ),
        (["License: 3-Clause BSD License"], "BSD-3-Clause"),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], "BSD-3-Clause"),
    ],
)
def test_licence_with_an_spdx_expression_is_normalised(lines, expression):
    assert of(*lines) == Licence(expression=expression)


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["Classifier: License :: OSI Approved :: BSD License"], ("BSD License",)),
        (["License: BSD", "Classifier: License :: OSI Approved :: BSD License"], ("BSD", "BSD License")),
        (["License-Expression: LicenseRef-Ours"], ("LicenseRef-Ours",)),
        (["License: our own terms"], ("our own terms",)),
    ],
)
def test_licence_without_an_spdx_expression_keeps_its_name(lines, names):
    assert of(*lines) == Licence(names=names)


@pytest.mark.parametrize("lines", [[], ["License: UNKNOWN"], ["License: " + "long " * 100]])
def test_licence_without_a_declaration_is_missing(lines):
    assert of(*lines) == Licence(missing="its metadata names none")


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GPL-2+ or Artistic", "GPL-2.0-or-later OR Artistic-1.0-Perl"),
        ("BSD-3-clause, and GPL-3", "BSD-3-Clause AND GPL-3.0-only"),
        ("GPL-3+ with OpenSSL exception", ""),
        ("public-domain", ""),
        ("Expat, ISC", ""),
    ],
)
def test_debian_short_names_map_to_spdx(name, expression):
    assert debian_expression(name) == expression


def test_copyright_file_yields_all_its_licences():
    text = f"{FORMAT}\nFiles: *\nLicense: GPL-2+ or Expat\n\nFiles: x\nLicense: ISC\n text\n\nLicense: ISC\n"
    assert licence_of_copyright(text) == Licence(expression="(GPL-2.0-or-later OR MIT) AND ISC")
    odd = f"{FORMAT}\nFiles: *\nLicense: public-domain\n\nFiles: y\nLicense: ISC\n"
    assert licence_of_copyright(odd) == Licence(names=("ISC", "public-domain"))


def test_copyright_file_yields_each_licence_once():
    text = f"{FORMAT}\nLicense: Expat and ISC\n\nLicense: ISC and curl\n"
    assert licence_of_copyright(text) == Licence(expression="ISC AND MIT AND curl")


def test_free_form_licence_texts_are_not_guessed():
    assert licence_of_copyright("This is under the GPL.\nLicense: GPL\n").missing.startswith(
        "its copyright file is not"
    )
    assert licence_of_copyright(f"{FORMAT}\nFiles: *\nCopyright: me\n").missing == "its copyright file names none"


def test_licence_without_a_short_name_is_kept_as_its_text():
    unnamed = "Files: *\nLicense:\n Licensed under your choice of (a) one;\n or (b) another.\n"
    text = f"{FORMAT}\n{unnamed}\nFiles: x\nLicense: MIT\n"
    assert licence_of_copyright(text) == Licence(
        names=("Licensed under your choice of (a) one; or (b) another.", "MIT")
    )
    long = licence_of_copyright(f"{FORMAT}\nLicense:\n {'word ' * 100}\n")
    assert [len(name) for name in long.names] == [200]
