"""A good image has no findings; each planted problem is found, and nothing else."""

import tarfile
from dataclasses import replace

import pytest

from buildkit.audit.rules import RULES
from buildkit.audit.view import ImageOrigin
from buildkit.findings import Severity
from tests.audit.crafted import CONFIG, PASSWD, Member, audit, capable, env, file, folder, ids, link, program
from tests.audit.samples import PEM
from tests.native.elfmaker import make_elf

SITE = "opt/venv/lib/python3.13/site-packages"
LABELS = CONFIG["Labels"]
ELF = make_elf()
DEBIANS_SITECUSTOMIZE = b"""\
# install the apport exception handler if available
try:
    import apport_python_hook
except ImportError:
    pass
else:
    apport_python_hook.install()
"""


def setuid(path: str, mode: int, **more) -> Member:
    return replace(program(path), mode=mode, **more)


PLANTED = {
    "user-root": [{"config": {"User": ""}}, {"config": {"User": "0:0"}}, {"config": {"User": "root"}}],
    "user-unknown": [{"config": {"User": "nobody-here"}}],
    "user-by-name": [{"config": {"User": "mluser"}}, {"config": {"User": "mluser:1000"}}],
    "setuid-file": [[setuid("usr/libexec/helper", 0o4755)], [setuid("usr/libexec/helper", 0o2755, gid=42)]],
    "file-capability": [[capable("usr/libexec/ping", 13)], [capable("usr/libexec/x", 21, 39)]],
    "world-writable": [
        [folder("var/spool", 0o777)],
        [file("srv/data.txt", b"x", 0o666)],
        [Member(path="srv/pipe", kind=tarfile.FIFOTYPE, mode=0o622)],
    ],
    "shell": [[program("usr/bin/dash")], [program("usr/bin/busybox"), link("opt/venv/bin/sh", "/usr/bin/busybox")]],
    "package-manager": [
        [program("usr/bin/apt-get")],
        [program("opt/venv/bin/pip3.13")],
        [file(f"{SITE}/pip/__main__.py")],
    ],
    "compiler": [[program("usr/bin/x86_64-linux-gnu-gcc-14")], [program("usr/local/bin/nvcc")]],
    "downloader": [[program("usr/bin/curl")], [program("bin2/x"), link("usr/bin/wget", "/bin2/x")]],
    "debugger": [[program("usr/bin/strace")]],
    "interpreter": [[program("usr/bin/perl5.40.1")]],
    "remote-login": [[program("usr/sbin/sshd")]],
    "writable-code": [
        [folder("app", uid=1000)],
        [file("app/main.py", b"x", uid=1000)],
        [folder(f"{SITE}/alpha", 0o775, gid=1000)],
        [file(f"{SITE}/more.pth", b"/srv/more\n"), folder("srv/more", uid=1000)],
        [{"config": env("PYTHONPATH=/srv/lib:/tmp/lib")}],
        [{"config": {"Volumes": {"/app/plugins": {}, "/app": {}}}}],
        [folder("opt/venv/lib", uid=1000)],
    ],
    "user-site": [
        [
            file("etc/passwd", PASSWD.replace(b"/nonexistent", b"/home/mluser")),
            folder("home/mluser", 0o700, uid=1000),
            {"config": env("PATH=/usr/bin")},
            link("usr/bin/python3", "python3.13"),
        ]
    ],
    "startup-code": [
        [file(f"{SITE}/sitecustomize.py", b"x")],
        [file("usr/lib/python3.13/sitecustomize.py", b"import apport_python_hook\n" + b"x = 1\n" * 100)],
        [file("usr/lib/python3.13/sitecustomize.py", b"import evil  # apport_python_hook\n")],
        [file("usr/lib/python3.13/sitecustomize.py", DEBIANS_SITECUSTOMIZE + b"import evil\n")],
        [file("usr/lib/python3/dist-packages/apport_python_hook.py", b"x")],
        [file(f"{SITE}/usercustomize.py", DEBIANS_SITECUSTOMIZE)],
        [file(f"{SITE}/sitecustomize.cpython-313-x86_64-linux-gnu.so", b"x")],
        [file(f"{SITE}/usercustomize.pyc", b"x")],
        [link("usr/lib/python3.13/sitecustomize.py", "/srv/evil.py"), file("srv/evil.py", b"x")],
        [file(f"{SITE}/evil.pth", b"import os; os.system('x')\n")],
        [file(f"{SITE}/evil.pth", b"\xef\xbb\xbfimport os; os.system('x')\n")],
        [file(f"{SITE}/evil.pth", b"#" * (1 << 19) + b"\nimport evil\n")],
        [link(f"{SITE}/evil.pth", "/srv/evil.txt"), file("srv/evil.txt", b"import evil\n")],
        [file(f"{SITE}/a1_coverage.pth", b"import evil; coverage = 1\n")],
        [file(f"{SITE}/_virtualenv.pth", b"import _virtualenv, evil\n")],
    ],
    "relative-search-path": [
        [{"config": env("PATH=/opt/venv/bin:/usr/bin:")}],
        [{"config": env("PYTHONPATH=.:/srv")}],
        [{"config": env("PATH=bin:/opt/venv/bin:/usr/bin")}],
    ],
    "writable-search-path": [
        [{"config": env("PATH=/srv/bin:/opt/venv/bin:/usr/bin")}, folder("srv/bin", 0o755, uid=1000)],
        [{"config": env("PATH=/tmp/bin:/opt/venv/bin:/usr/bin")}],
        [program("usr/bin/tool", uid=1000)],
        [file("usr/lib/libc.so.6", ELF, uid=1000)],
    ],
    "preload": [
        [{"config": env("LD_PRELOAD=/usr/lib/libevil.so")}],
        [{"config": env("LD_AUDIT=/x.so")}],
        [file("etc/ld.so.preload", b"/usr/lib/evil.so\n")],
    ],
    "hook-escape": [
        [{"config": env("LD_PRELOAD=./poc.so")}],
        [{"config": env("LD_PRELOAD=/usr/lib/libjemalloc.so.2:srv/x.so")}],
        [{"config": env("LD_PRELOAD=/proc/self/cwd/poc.so")}],
        [{"config": env("LD_AUDIT=/proc/1/root/poc.so")}],
    ],
    "cuda-driver": [
        [
            file(f"{SITE}/torch-2.13.0+cu130.dist-info/METADATA"),
            {"origin": ImageOrigin(asks_for_gpu=True, driver=">=570")},
        ],
        [
            file(f"{SITE}/x.so", make_elf(needed=["libcudart.so.13"], runpath="/opt/cuda")),
            file("opt/cuda/libcudart.so.13", ELF),
            {"origin": ImageOrigin(asks_for_gpu=True, driver=">=570,<600")},
        ],
    ],
    "cuda-compat": [
        [
            file("usr/local/cuda/compat/libcuda.so.550.54.14", ELF),
            {"origin": ImageOrigin(asks_for_gpu=True, driver=">=570")},
        ],
        [file("usr/lib/libcuda.so.550.54.14", ELF), link("usr/lib/libcuda.so.1", "libcuda.so.550.54.14")],
    ],
    "library-path": [[{"config": env("LD_LIBRARY_PATH=/usr/local/nvidia/lib64")}]],
    "hook-variable": [
        [{"config": env("PYTHONSTARTUP=/app/start.py")}],
        [{"config": env("GLIBC_TUNABLES=glibc.malloc.check=1")}],
        [{"config": env("NODE_TLS_REJECT_UNAUTHORIZED=0")}],
        [{"config": env("PIP_EXTRA_INDEX_URL=https://pypi.internal/simple")}],
    ],
    "source-repository": [[folder("app/.git"), file("app/.git/config", b"[core]\n")]],
    "privileged-port": [[{"config": {"ExposedPorts": {"80/tcp": {}}}}]],
    "risky-port": [[{"config": {"ExposedPorts": {"22/tcp": {}}}}], [{"config": {"ExposedPorts": {"5678/tcp": {}}}}]],
    "no-healthcheck": [
        [{"config": {"Healthcheck": None}}],
        [{"config": {"Healthcheck": {"Test": ["NONE"]}}}],
        [{"config": {"Healthcheck": {"Test": [["CMD", "x"]]}}}],
    ],
    "command-missing": [
        [{"config": {"Healthcheck": {"Test": ["CMD-SHELL", "true"]}}}],
        [{"config": {"Healthcheck": {"Test": ["CMD", "/usr/bin/nothing"]}}}],
        [{"config": {"Cmd": ["uvicorn"]}}],
        [file("usr/bin/python3.13", b"x", 0o644)],
    ],
    "base-unpinned": [[{"config": {"Labels": LABELS | {"org.opencontainers.image.base.digest": ""}}}]],
    "labels-missing": [[{"config": {"Labels": LABELS | {"org.opencontainers.image.title": ""}}}]],
    "latest-tag": [
        [{"origin": ImageOrigin(tag="registry.internal:5000/app")}],
        [{"origin": ImageOrigin(tag="r.internal/app:latest")}],
    ],
    "larger-than-peer": [[{"origin": ImageOrigin(peers=(("runtime", 100),))}]],
    "record-wrong": [
        [file("var/lib/dpkg/status.d/tool.md5sums", b"0a  usr/bin/tool\n")],
        [file("var/lib/dpkg/info/tool:amd64.md5sums", b"0a  etc/passwd\n0b  usr/lib/gone.so\n")],
        [file(f"{SITE}/tool-1.dist-info/RECORD", b"tool/__init__.py,sha256=x,1\n")],
        [file(f"{SITE}/tool-1.dist-info/RECORD", b"../../../bin/tool,,\n")],
        [file(f"{SITE}/tool-1.dist-info/RECORD", b"x" * ((4 << 20) + 1))],
    ],
    "device-node": [[Member(path="srv/disk", kind=tarfile.BLKTYPE, device=(8, 0))]],
    "hostile-member": [
        [file("../../etc/cron.d/x", b"x")],
        [file("/srv/absolute", b"x")],
        [file("srv/twice", b"1"), file("srv/twice", b"2")],
        [link("srv/way", "/etc"), file("srv/way/cron", b"x")],
        [Member(path="srv/hard", kind=tarfile.LNKTYPE, link="../../etc/shadow")],
    ],
    "odd-name": [[file("srv/a\x1b[31mb", b"x")], [file("srv/line\nbreak", b"x")], [file("srv/\u202etxt.exe", b"x")]],
    "link-escapes": [[link("srv/out", "../../../etc/passwd")]],
    "second-root": [[file("etc/passwd", PASSWD + b"toor:x:0:0::/:/x\n")]],
    "duplicate-account": [[file("etc/passwd", PASSWD + b"mluser:x:1001:1001::/:/x\n")]],
    "empty-password": [
        [file("etc/passwd", PASSWD + b"guest::1001:1001::/:/x\n")],
        [file("etc/shadow", b"root::1::::::\n", 0o640)],
    ],
    "password-set": [[file("etc/shadow", b"root:$6$abc$def:1::::::\n", 0o640)]],
    "accounts-writable": [[file("etc/passwd", PASSWD, 0o664, gid=1000)], [file("etc/group", b"x", uid=1000)]],
    "add-step": [
        [{"history": [{"created_by": "COPY a"}, {"created_by": "/bin/sh -c #(nop) ADD https://x/y.tgz in /"}]}]
    ],
    "update-alone": [[{"history": [{"created_by": "RUN apt-get -q update"}]}]],
    "engine-socket": [[{"config": {"Volumes": {"/var/run/docker.sock": {}}}}]],
    "secret-in-layer": [[file("srv/key.txt", PEM.encode())]],
    "secret-in-config": [[{"config": env("API_TOKEN=Zq8vTr4mLw2x")}]],
    "published-key": [
        [file(f"{SITE}/alpha/tests/server.key", PEM.encode())],
        [file("usr/local/lib/python3.13/test/certdata/key.pem", PEM.encode())],
        [file("usr/share/cmake/Templates/key.pfx", b"0\x82key")],
    ],
}
CASES = [(rule, case if isinstance(case, list) else [case]) for rule, cases in PLANTED.items() for case in cases]


def plant(case):
    members = [part for part in case if isinstance(part, Member)]
    more = {key: value for part in case if isinstance(part, dict) for key, value in part.items()}
    return audit(*([members] if members else []), **more)


def test_good_image_has_no_findings():
    assert audit() == ()


@pytest.mark.parametrize(("rule", "case"), CASES, ids=[f"{rule}-{number}" for number, (rule, _) in enumerate(CASES)])
def test_planted_problem_is_the_only_finding(rule, case):
    assert ids(plant(case)) == {rule}


def test_records_that_name_what_is_there_are_no_finding():
    record = b'tool/a.py,sha256=x,1\n"tool/b,c.py",,\ntool/__pycache__/a.cpython-313.pyc,,\n../../../bin/tool,,\n'
    sums = b"0a  usr/lib/libtool.so.1\n0b  lib/link.so\n0c  usr/share/doc/tool/README\n"
    given = [
        file(f"{SITE}/tool/a.py"), file(f"{SITE}/tool/b,c.py"), program("opt/venv/bin/tool"),
        file(f"{SITE}/tool-1.dist-info/RECORD", record),
        link("lib", "usr/lib"), file("usr/lib/libtool.so.1"), file("usr/lib/link.so"),
        file("var/lib/dpkg/status.d/tool.md5sums", sums),
    ]  # fmt: skip
    assert audit(given) == ()


def test_every_rule_has_a_sample():
    assert {rule.id for rule in RULES} == set(PLANTED)
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_every_rule_has_reason_and_advice():
    for rule in RULES:
        assert rule.why.endswith(".")
        assert rule.advice.endswith(".")
        assert not rule.title.endswith(".")


def test_finding_has_path_and_layer():
    (finding,) = audit([setuid("usr/libexec/helper", 0o4755)])
    assert finding.path == "usr/libexec/helper"
    assert finding.layer == f"sha256:{1:064x}"
    assert "uid 0" in finding.what
    assert "4755" in finding.what


def test_file_deleted_by_later_layer_is_not_in_final_view():
    bad = [setuid("usr/libexec/helper", 0o4755), program("usr/bin/bash"), folder("var/spool", 0o777)]
    gone = [file("usr/libexec/.wh.helper"), file("usr/bin/.wh.bash"), file("var/.wh..wh..opq")]
    assert ids(audit(bad)) == {"setuid-file", "shell", "world-writable"}
    assert audit(bad, gone) == ()


def test_file_made_harmless_by_later_layer_is_not_found():
    assert audit([setuid("usr/libexec/helper", 0o4755)], [program("usr/libexec/helper")]) == ()


def test_file_that_replaces_folder_hides_its_content():
    assert audit([program("usr/sbin/sshd")], [file("usr/sbin", b"x")]) == ()


def test_device_in_lower_layer_is_found():
    disk = Member(path="srv/disk", kind=tarfile.BLKTYPE, device=(8, 0))
    assert ids(audit([disk], [file("srv/.wh.disk")])) == {"device-node"}


def test_severity_depends_on_case():
    def worst(*members, **more):
        return max(finding.severity for finding in audit(list(members), **more))

    assert worst(setuid("x/a", 0o4755)) == Severity.HIGH
    assert worst(setuid("x/a", 0o2755)) == Severity.MEDIUM
    assert worst(setuid("x/a", 0o4644)) == Severity.LOW
    assert worst(capable("x/a", 21)) == Severity.HIGH
    assert worst(capable("x/a", 10)) == Severity.LOW
    null = Member(path="dev/null", kind=tarfile.CHRTYPE, device=(1, 3))
    assert worst(null) == Severity.LOW
    library = file("usr/lib/libjemalloc.so.2", b"x")
    assert worst(library, config=env("LD_PRELOAD=/usr/lib/libjemalloc.so.2")) == Severity.MEDIUM


def test_capabilities_are_formatted_like_getcap():
    (finding,) = audit([capable("usr/libexec/x", 13, 21, 39)])
    assert finding.what == "carries cap_net_raw,cap_sys_admin,cap_bpf=ep"
    (odd,) = audit([replace(program("x"), pax={"SCHILY.xattr.security.capability": b"\x99\x00"})])
    assert "cannot be read" in odd.what


def test_group_member_may_write():
    more = file("etc/group", b"root:x:0:\nmluser:x:1000:\nstaff:x:50:a,mluser\n")
    assert ids(audit([more, folder("app", 0o775, gid=50)])) == {"writable-code"}
    assert audit([folder("app", 0o775, gid=50)]) == ()


def test_numeric_user_is_resolved_to_account():
    assert ids(audit([folder("app", uid=1000)], config={"User": "1000"})) == {"writable-code"}
    assert audit(config={"User": "4711"}) == ()


def test_hard_link_is_resolved_to_its_target():
    data = [program("srv/x"), Member(path="usr/bin/bash", kind=tarfile.LNKTYPE, link="srv/x", mode=0o755)]
    assert ids(audit(data)) == {"shell"}


def test_sticky_parent_protects_existing_entries():
    there = [folder("tmp/lib"), file("tmp/lib/x.py", b"x")]
    assert audit(there, config=env("PYTHONPATH=/tmp/lib")) == ()
    assert ids(audit(config=env("PYTHONPATH=/tmp/lib"))) == {"writable-code"}


def test_isolated_script_imports_nothing_from_its_folder():
    writable = [folder("srv/w", 0o755, uid=1000), file("srv/w/x.py", b"x", uid=1000)]
    run = {"WorkingDir": "/srv/w", "Cmd": ["python3", "x.py"]}
    assert ids(audit(writable, config=run)) == {"writable-code"}
    assert audit(writable, config=run | {"Cmd": ["python3", "-I", "x.py"]}) == ()


def test_buildkit_history_pins_the_base():
    labels = {"Labels": {key: LABELS[key] for key in list(LABELS)[:2]}}
    ours = {"comment": "buildkit", "created_by": "Debian trixie: 12 packages of requirements/base.apt"}
    assert audit(config=labels, history=[ours]) == ()
    assert ids(audit(config=labels, history=[ours | {"comment": ""}])) == {"base-unpinned"}
    assert audit(config=labels, origin=ImageOrigin(pinned="requirements/base.apt.lock")) == ()


def test_well_known_startup_code_is_not_found():
    line = (
        b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
        b"enabled and __import__('_distutils_hack').add_shim(); \n"
    )
    assert audit([file(f"{SITE}/_virtualenv.pth", b"import _virtualenv\n")]) == ()
    assert audit([file(f"{SITE}/distutils-precedence.pth", line)]) == ()
    hidden = audit([file(f"{SITE}/distutils-precedence.pth", line + b"import evil\n")])
    assert ids(hidden) == {"startup-code"}


def test_debian_startup_code_is_not_found():
    to_it = link("usr/lib/python3.13/sitecustomize.py", "/etc/python3.13/sitecustomize.py")
    assert audit([file("etc/python3.13/sitecustomize.py", DEBIANS_SITECUSTOMIZE), to_it]) == ()


def test_excess_findings_are_counted_not_listed():
    found = audit([file(f"srv/{number}", b"x", 0o666) for number in range(500)])
    assert len(found) == 101
    assert "400 more" in found[-1].what
