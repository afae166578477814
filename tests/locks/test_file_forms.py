"""``--no-binary`` and ``--only-binary`` of a lock, as pip's own parser reads them."""

import itertools

import pytest
from pip._internal.models.format_control import FormatControl

from buildkit.digest import FileHash
from buildkit.locks.file_forms import FileForms
from buildkit.locks.requirements_txt import check_agreement, parse_requirements

WORDS = [":all:", ":none:", "a", "A_.b,a", ":all:,a", "a,:all:", ":all:,:none:,a-b"]
LINES = [(option, word) for option in ("--no-binary", "--only-binary") for word in WORDS]
PIN = f"a==1 --hash={FileHash.of(b'')}\n"


@pytest.mark.parametrize("lines", [*itertools.product(LINES, repeat=2), *itertools.product(LINES[:8], repeat=3)])
def test_options_mean_what_they_mean_to_pip(lines):
    control, forms = FormatControl(), FileForms()
    for option, word in lines:
        own, other = control.no_binary, control.only_binary
        if option == "--only-binary":
            own, other = other, own
        FormatControl.handle_mutual_excludes(word, own, other)
        assert forms.read(f"{option} {word}")
    names = {frozenset(("binary", "source")): "", frozenset(("binary",)): "wheel", frozenset(("source",)): "sdist"}
    for name in ("a", "a-b", "c"):
        assert forms.find(name) == names[control.get_allowed_formats(name)]


def test_pins_have_the_form_that_the_lock_allows():
    text = f"--no-binary a\n--only-binary=b\n{PIN}{PIN.replace('a==', 'b==')}{PIN.replace('a==', 'c==')}"
    assert [pin.form for pin in parse_requirements(text, "x.txt")] == ["sdist", "wheel", ""]


def test_locks_of_one_image_must_agree_on_the_form():
    one, two = parse_requirements(PIN, "one.txt"), parse_requirements(f"--no-binary a\n{PIN}", "two.txt")
    (problem,) = check_agreement({"one": one, "two": two})
    assert problem.what == "a must be an sdist, but one.txt:1 may be any file"
    assert not check_agreement({"one": two, "two": two})
