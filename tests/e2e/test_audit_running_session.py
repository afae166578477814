"""`nox -s audit-running`: a container with everything wrong at once, one as it should be, and one with exceptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.audit.samples import TOKENS
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
_PLANT = Path(__file__).with_name("acts") / "plant.c"
_SCHEMA = Path(__file__).parents[1] / "report/schemas/sarif-schema-2.1.0.json"
SERVICE = "trap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n"
BAD = """
/data/plant sleep &
/data/plant memory &
/data/plant copy /usr/bin/evil &
/data/plant delete /opt/gone &
/data/plant listen 0.0.0.0 9999 &
/data/plant connect 203.0.113.9 443 &
/bin/sh /data/evil.sh &
exec sleep 600
"""
PLANTED = {
    "code-from-writable": ("/data/plant", "high"),
    "code-in-memory": ("/memfd:planted", "high"),
    "code-not-in-image": ("/usr/bin/evil: it was written", "high"),
    "script-from-writable": ("/data/evil.sh", "medium"),
    "outgoing-connection": ("203.0.113.9, port 443/udp", "high"),
    "undeclared-port": ("9999/tcp is open on 0.0.0.0", "medium"),
    "process-root": ("runs with uid 0", "high"),
    "process-capabilities": ("CapEff", "high"),
    "new-privileges": ("NoNewPrivs 0", "high"),
    "root-writable": ("/ is mounted for reading and writing", "high"),
    "executable-place": ("/data", "medium"),
    "writable-place": ("/data", "medium"),
    "no-memory-limit": ("", "medium"),
    "shared-namespace": ("its ipc namespace", "high"),
    "environment-secret": ("TOKEN", "high"),
    "engine-mounted": ("podman.sock is mounted at /run/engine.sock", "critical"),
    "undeclared-mount": ("evil.sh is mounted at /etc/evil.sh", "medium"),
    "weaker-flag": ("seccomp profile allows", "medium"),
    "way-out": ("default route", "medium"),
}
GONE = "/opt/gone: it was deleted"
HOSTS_OWN = {"no-memory-limit", "no-pids-limit", "way-out"}
"""What a host may be unable to do; `run-STAGE` and `up` say so."""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program that needs nothing but the kernel."""
    folder = tmp_path_factory.mktemp("plant")
    subprocess.run(("cc", "-static", "-Os", "-o", str(folder / "plant"), str(_PLANT)), check=True)
    (folder / "evil.sh").write_text("while :; do sleep 1; done\n")
    (folder / "podman.sock").touch()
    return folder


@pytest.fixture
def service(tiny: Tiny) -> Iterator[Tiny]:
    """The tiny project, whose application lasts; its containers are removed."""
    tiny.write("stages/app/app/main.sh", SERVICE)
    tiny.replace("stages/app/stage.toml", 'user = "1000"', 'user = "1000:1000"')
    tiny.git("add", ".")
    yield tiny
    tiny.tool("podman", "rm", "--all", "--force", "--time", "0")


def audited(done: SessionResult) -> dict[str, Any]:
    value: dict[str, Any]
    value, _ = json.JSONDecoder().raw_decode(done.text[done.text.index("{") :])
    return value


def found_in(audit: dict[str, Any], container: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in audit["findings"]:
        if finding["container"] == container:
            found.setdefault(finding["rule"], []).append(finding["what"])
    return found


def start_bad(tiny: Tiny, plant: Path) -> None:
    tiny.tool(
        "podman", "run", "--detach", "--name=bad", "--user=0", "--ipc=host", f"--env=TOKEN={TOKENS['GitHub token']}",
        f"--volume={plant}:/data:rw", f"--volume={plant}/podman.sock:/run/engine.sock",
        f"--volume={plant}/evil.sh:/etc/evil.sh:ro", "--workdir=/",
        "localhost/tiny/app:latest", "/bin/sh", "-c", BAD,
    )  # fmt: skip


def test_every_violation_is_found_and_a_container_as_declared_is_clean(
    service: Tiny, plant: Path, tmp_path: Path
) -> None:
    service.build("app")
    assert service.run("run-app", "--no-build", "--detach").code == 0
    start_bad(service, plant)
    output, sarif = tmp_path / "findings.json", tmp_path / "findings.sarif"

    def look() -> tuple[int, dict[str, Any]]:
        done = service.run("audit-running", "--json", "--output", str(output), "--sarif", str(sarif))
        return done.code, audited(done)

    def is_planted() -> bool:
        bad = found_in(look()[1], "bad")
        return PLANTED.keys() <= bad.keys() and any(GONE in what for what in bad["code-not-in-image"])

    wait_until(is_planted)
    code, audit = look()
    bad = found_in(audit, "bad")
    for rule, (words, severity) in PLANTED.items():
        assert any(words in what for what in bad[rule]), (rule, bad[rule])
        ours = [one for one in audit["findings"] if (one["container"], one["rule"]) == ("bad", rule)]
        assert severity in {one["severity"] for one in ours}, ours
    assert bad.keys() - PLANTED.keys() <= HOSTS_OWN, bad
    assert code == 1
    assert audit["complete"], audit
    assert found_in(audit, "tiny-app").keys() <= HOSTS_OWN, "a container as it should be"
    assert TOKENS["GitHub token"] not in output.read_text()
    stored = json.loads(output.read_text())
    assert (stored["findings"], stored["interval"], stored["format"]) == (audit["findings"], None, 1)
    log = json.loads(sarif.read_text())
    jsonschema.Draft4Validator(json.loads(_SCHEMA.read_text())).validate(log)
    assert [run["automationDetails"]["id"] for run in log["runs"]] == ["audit-running/bad/", "audit-running/tiny-app/"]
    printed = service.run("audit-running", "--once")
    assert printed.code == 1
    assert "code-in-memory: A process runs code that no file has" in printed.text
    service.tool("podman", "rm", "--force", "--time", "0", "bad")
    done = service.run("audit-running", "--once")
    assert done.code == 0, done.text

    service.replace("stages/app/app/words.txt", "w", "W")
    assert "has not built `app`" in found_in(look()[1], "tiny-app")["image-unverified"][0]
    service.build("app")
    code, audit = look()
    assert (code, list(found_in(audit, "tiny-app").keys() - HOSTS_OWN)) == (1, ["image-differs"])


def test_exceptions_of_a_service_are_accepted_and_a_watch_follows_what_comes_and_goes(
    service: Tiny, plant: Path
) -> None:
    service.write("services.toml", SERVICES)
    service.git("add", ".")
    started = service.run("up", "only")
    assert started.code == 0, started.text
    audit = audited(service.run("audit-running", "--json"))
    assert found_in(audit, "tiny-only-app").keys() <= HOSTS_OWN
    accepted = {(one["rule"], one["reason"]) for one in audit["accepted"]}
    assert ("process-capabilities", "it is asked to (services.toml)") in accepted
    assert ("root-writable", "it keeps a file (services.toml)") in accepted
    lines = service.folder / "lines"
    with lines.open("w") as out, (service.folder / "errors").open("w") as errors:
        child = subprocess.Popen(
            service.argv("audit-running", "--stream", "--interval", "1"), cwd=service.folder, env=service.env,
            stdout=out, stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: bool(looks(lines)) and looks(lines)[-1]["containers"] != [])
        assert looks(lines)[-1]["interval"] == 1
        service.tool("podman", "cp", str(plant / "plant"), "tiny-only-app:/usr/bin/evil")
        service.tool("podman", "exec", "--detach", "tiny-only-app", "/usr/bin/evil", "sleep")
        wait_until(lambda: "code-not-in-image" in found_in(looks(lines)[-1], "tiny-only-app"))
        service.tool("podman", "rm", "--force", "--time", "0", "tiny-only-app")
        wait_until(lambda: looks(lines)[-1]["containers"] == [])
        assert looks(lines)[-1]["complete"], "what has ended needs not be examined"
        os.killpg(child.pid, signal.SIGINT)
        said = child.wait(timeout=60), (service.folder / "errors").read_text()
        assert said[0] == 0, said
        assert "Traceback" not in said[1]
    finally:
        child.kill()
        child.wait()
        service.run("up", "only", "--down")


def test_image_must_be_the_one_that_the_key_has_signed(service: Tiny, registry: str) -> None:
    ref = f"{registry}/running-{service.folder.name.encode().hex()}"
    for name in ("one", "two"):
        new = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name)
        subprocess.run(new, cwd=service.folder, check=True, capture_output=True)
        public = ("openssl", "pkey", "-in", name, "-pubout", "-out", f"{name}.pub")
        subprocess.run(public, cwd=service.folder, check=True)
    push_signed(service, f"{ref}:plain")
    service.replace("pyproject.toml", "bytecode = false", "bytecode = false\ncommit-labels = true")
    service.git("commit", "--all", "--quiet", "--message=Labels")
    push_signed(service, f"{ref}:labelled")
    service.build("app")
    assert service.run("run-app", "--no-build", "--detach").code == 0

    def judge(tag: str, pub: str = "one") -> tuple[str, str]:
        done = service.run(
            "audit-running", "--json", "--key", f"{service.folder}/{pub}.pub", "--signed", f"app={ref}:{tag}"
        )
        found = [one for one in audited(done)["findings"] if one["rule"].startswith("image-")]
        return (found[0]["rule"], found[0]["what"]) if found else ("", "")

    assert judge("plain") == ("", "")
    assert judge("labelled") == ("", ""), "it differs by the labels of the commit alone"
    assert judge("plain", pub="two")[0] == "image-unverified", "unknown is never verified"
    assert judge("none") == ("image-unverified", f"what is signed cannot be read: {ref}:none: there is no such image")
    service.replace("stages/app/app/words.txt", "w", "W")
    push_signed(service, f"{ref}:next")
    rule, what = judge("next")
    assert rule == "image-differs"
    assert "and what is signed is sha256:" in what
    assert judge("plain") == ("", ""), "what was signed stays so, whatever this checkout makes now"


def push_signed(tiny: Tiny, ref: str) -> None:
    done = tiny.run("push-app", ref, "--sign-by", str(tiny.folder / "one"))
    assert done.code == 0, done.text


SERVICES = """
[services.app]
stage = "app"
[[services.app.exceptions]]
allow = "capability:NET_BIND_SERVICE"
why = "it is asked to"
[[services.app.exceptions]]
allow = "writable-root"
why = "it keeps a file"
[environments.only]
services = ["app"]
"""


def looks(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def test_wrong_options_are_errors(tiny: Tiny) -> None:
    assert "must be seconds from 1 to 3600" in one_error(tiny.run("audit-running", "--interval", "0"), 2)
    assert "--signed needs the key" in one_error(tiny.run("audit-running", "--signed", "app=127.0.0.1:5000/app"), 2)
    assert "must be STAGE=REF" in one_error(tiny.run("audit-running", "--signed", "app"), 2)
