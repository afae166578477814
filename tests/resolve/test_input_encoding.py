"""An input that is not UTF-8 text is refused with what to do about it."""

import pytest

from buildkit.errors import DefinitionError
from buildkit.resolve.request import LockDrafts


def test_input_that_powershell_wrote_is_named(tmp_path):
    (tmp_path / "app.in").write_bytes("six\n".encode("utf-16"))
    with pytest.raises(DefinitionError, match=r"app\.in: not UTF-8 text") as caught:
        LockDrafts(tmp_path).read_disk("app.in")
    assert caught.value.hint == "save it as UTF-8: `>` of Windows PowerShell writes UTF-16"


def test_mark_of_the_encoding_is_no_part_of_the_text(tmp_path):
    (tmp_path / "app.in").write_bytes(b"\xef\xbb\xbfsix\n")
    assert LockDrafts(tmp_path).read_disk("app.in") == "six\n"
