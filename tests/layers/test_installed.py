"""Packages installed in a chain of layers, read from their tars."""

import io
import tarfile

import pytest

from buildkit.errors import BuildError
from buildkit.layers.root.installed import Deb, InstalledPackages

STATUS = "var/lib/dpkg/status"


def stanza(name, version, status="install ok installed", **more):
    fields = {"Package": name, "Status": status, "Architecture": "amd64", "Version": version, **more}
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value) + "\n"


def tar(files=None, links=None, hard=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", errors="surrogateescape") as archive:
        for path, text in (files or {}).items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        for kind, pairs in ((tarfile.SYMTYPE, links), (tarfile.LNKTYPE, hard)):
            for path, target in (pairs or {}).items():
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = kind, target
                archive.addfile(entry)
    return out.getvalue()


def inside(*layers):
    found = InstalledPackages()
    for layer in layers:
        found.add((layer,), "the layer")
    return found


def test_package_has_the_layer_that_installed_its_version():
    found = inside(
        tar({STATUS: stanza("libc6", "2.41", Source="glibc") + stanza("bash", "5.2")}),
        tar({"app/x": "x"}),
        tar({STATUS: stanza("libc6", "2.41", Source="glibc") + stanza("bash", "5.3") + stanza("gcc", "14")}),
    )
    assert found.debs == {
        Deb(name="bash", version="5.3", arch="amd64"): 2,
        Deb(name="gcc", version="14", arch="amd64"): 2,
        Deb(name="libc6", version="2.41", arch="amd64", source="glibc"): 0,
    }


def test_only_installed_packages_count():
    left = stanza("old", "1", "deinstall ok config-files") + stanza("gone", "1", "purge ok not-installed")
    assert [deb.name for deb in inside(tar({STATUS: left + stanza("kept", "1")})).debs] == ["kept"]


def test_records_of_a_root_without_dpkg_are_read():
    found = inside(tar({"var/lib/dpkg/status.d/libssl3": stanza("libssl3", "3.5", "", Source="openssl (3.5.1)")}))
    assert list(found.debs) == [
        Deb(name="libssl3", version="3.5", arch="amd64", source="openssl", source_version="3.5.1")
    ]


def test_whiteouts_of_a_later_layer_remove_packages():
    low = tar({STATUS: stanza("bash", "5"), "opt/a.dist-info/METADATA": "a", "opt/b.dist-info/METADATA": "b"})
    high = tar({"var/lib/dpkg/.wh.status": "", "opt/.wh.a.dist-info": ""})
    found = inside(low, high)
    assert found.debs == {}
    assert list(found.python) == ["opt/b.dist-info/METADATA"]
    opaque = inside(low, tar({"opt/.wh..wh..opq": "", "opt/c.dist-info/METADATA": "c"}))
    assert opaque.python == {"opt/c.dist-info/METADATA": ("c", 1)}
    assert [deb.name for deb in opaque.debs] == ["bash"]


def test_opaque_whiteout_of_the_root_removes_everything_below():
    low = tar({STATUS: stanza("bash", "5"), "opt/a.dist-info/METADATA": "a"})
    found = inside(low, tar({".wh..wh..opq": "", "opt/c.dist-info/METADATA": "c"}))
    assert found.debs == {}
    assert list(found.python) == ["opt/c.dist-info/METADATA"]


def test_copyright_is_found_through_links():
    found = inside(
        tar(
            {"usr/share/doc/libgcc-s1/copyright": "text"},
            {"usr/share/doc/gcc-14-base": "libgcc-s1", "usr/share/doc/x/copyright": "../libgcc-s1/copyright"},
            {"usr/share/doc/y/copyright": "usr/share/doc/libgcc-s1/copyright"},
        )
    )
    assert [found.copyright(name) for name in ("libgcc-s1", "gcc-14-base", "x", "y", "none")] == ["text"] * 4 + [None]
    circle = inside(tar(links={"usr/share/doc/a": "b", "usr/share/doc/b": "a"}))
    assert circle.copyright("a") is None


def test_python_packages_of_debian_are_listed_only_as_debian_packages():
    paths = ("usr/lib/python3/dist-packages/pip-1.dist-info/METADATA", "opt/venv/lib/pip-1.dist-info/METADATA")
    files = dict.fromkeys(paths, "Name: pip")
    assert list(inside(tar(files)).python) == sorted(paths)
    assert list(inside(tar({**files, STATUS: stanza("python3-pip", "1")})).python) == [paths[1]]


def test_release_is_read_from_os_release():
    text = 'PRETTY_NAME="Debian GNU/Linux 13"\nID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'
    found = inside(tar({"usr/lib/os-release": text}, {"etc/os-release": "../usr/lib/os-release"}))
    assert found.release == {
        "PRETTY_NAME": "Debian GNU/Linux 13",
        "ID": "debian",
        "VERSION_ID": "13",
        "VERSION_CODENAME": "trixie",
    }


def test_damaged_layer_is_refused():
    with pytest.raises(BuildError, match="the layer is damaged"):
        inside(tar({STATUS: stanza("a", "1")})[:700])
