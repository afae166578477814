"""`nox -s observe` beside a real environment: from Debian's packages to a webhook, and nothing left at the end."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from buildkit.running.labels import ENVIRONMENT, PROJECT, SERVICE
from tests.e2e.test_audit_running_session import HOSTS_OWN
from tests.e2e.tinyproject import SessionResult, Tiny, one_error
from tests.e2e.tinyroot import push_root
from tests.observe.webhook import Receiver, receiving
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]
# answers each request with the metrics in a file; its socket is packed by hand, as no module is there
_WEB = (
    "$SIG{TERM} = sub { exit }; socket S, 2, 1, 0; setsockopt S, 1, 2, 1; bind S, pack('SnNx8', 2, 8000, 0) or die $!;"
    " listen S, 9; while (accept C, S) { sysread C, $_, 4096; open F, '/tmp/metrics';"
    ' print C "HTTP/1.0 200 OK\\r\\nContent-Type: text/plain; version=0.0.4\\r\\n\\r\\n", <F>; close C }'
)
_STAGE = """summary = "answers with what a file says"
[root]
image = "{image}"
[config]
user = "1000:1000"
cmd = {cmd}
ports = ["8000"]
[running]
memory = "64m"
tmpfs = {{ "/tmp" = "1m" }}
stop-seconds = 2
"""
_SERVICES = """[services.web]
stage = "web"
metrics = { port = 8000 }
[secrets.hook]
env = "HOOK"
[environments.production]
services = ["web"]
[observe]
rules = ["ops/rules.yml"]
ports = { prometheus = 0, alertmanager = 0, monitor = 0 }
webhook = { url-secret = "hook" }
"""
_RULES = """groups:
  - name: own
    rules:
      - alert: WebSays
        expr: web_says > 5
"""


class Observed:
    """A project with an environment, and what watches it."""

    def __init__(self, tiny: Tiny, receiver: Receiver) -> None:
        self.tiny = tiny
        self.receiver = receiver
        self.project = f"t{secrets.token_hex(4)}"  # networks of root are shared by all storages
        tiny.see_store(seen=True)  # nothing is copied into podman's storage
        image = push_root(self._registry(), tiny.folder / "tmp", tiny.env, (Path("/usr/bin/perl"),))
        command = json.dumps(["perl", "-e", _WEB])
        tiny.write("stages/web/stage.toml", _STAGE.format(image=image, cmd=command))
        tiny.write("services.toml", _SERVICES)
        tiny.write("ops/rules.yml", _RULES)
        tiny.write("pyproject.toml", f'[tool.buildkit]\nname = "{self.project}"\n')

    def _registry(self) -> str:
        text = (self.tiny.project / "stages/base/stage.toml").read_text()
        return text.partition('image = "')[2].partition("/")[0]

    def run(self, *arguments: str) -> str:
        ended = self.session(*arguments)
        assert ended.code == 0, ended.text
        return ended.text

    def session(self, *arguments: str) -> SessionResult:
        return self.tiny.run("observe", *arguments, HOOK=f"http://{self.gateway}:{self.receiver.port}/hook")

    @cached_property
    def gateway(self) -> str:
        """The host, as containers of the stack see it."""
        text = self.tiny.run("observe", "--print", "production").text
        return text.partition("--subnet ")[2].partition(".0/24")[0] + ".1"

    def address(self, name: str) -> str:
        said = self.tiny.run("observe", "--status", "--json", "production").text
        states = json.loads(said[said.index("{") :])["services"]
        assert {one["name"]: one["state"] for one in states} == dict.fromkeys(PARTS, "healthy"), said
        [found] = [one["addresses"][0] for one in states if one["name"] == name]
        return f"http://{found}"

    def say(self, value: int) -> None:
        """Set what the service's metrics say."""
        container = f"{self.project}-production-web"
        self.tiny.tool("podman", "exec", container, "/bin/bash", "-c", f"echo web_says {value} > /tmp/metrics")


PARTS = ("prometheus", "alertmanager", "node-exporter", "monitor")


@pytest.fixture
def observed(tiny: Tiny) -> Iterator[Observed]:
    with receiving("0.0.0.0") as receiver:
        observed = Observed(tiny, receiver)
        try:
            yield observed
        finally:
            tiny.run("observe", "--down", "--volumes", "production")
            tiny.run("up", "production", "--down", "--volumes")


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)["data"]


def up(prometheus: str) -> dict[str, str]:
    """The health of what is asked, by instance."""
    return {one["labels"]["instance"]: one["health"] for one in ask(f"{prometheus}/api/v1/targets")["activeTargets"]}


def audited(tiny: Tiny) -> dict[str, dict[str, str]]:
    """What is found of each container, by rule, but for what this host may be unable to do."""
    text = tiny.run("audit-running", "--json").text
    audit, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    assert (audit["complete"], audit["problems"]) == (True, []), audit
    found = {one["name"]: dict[str, str]() for one in audit["containers"]}
    for finding in audit["findings"]:
        if finding["rule"] not in HOSTS_OWN:
            found[finding["container"]][finding["rule"]] = finding["what"]
    return found


def test_what_watches_asks_a_closed_service_tells_a_webhook_and_leaves_nothing(observed: Observed) -> None:
    tiny, project = observed.tiny, observed.project
    started = tiny.run("up", "production")
    assert started.code == 0, started.text
    observed.say(1)
    observed.run("production")
    prometheus = observed.address("prometheus")
    wait_until(lambda: up(prometheus) == dict.fromkeys((*PARTS, "web"), "up"))
    with urllib.request.urlopen(observed.address("monitor"), timeout=60) as page:  # its image has little of Python
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    [web] = [one for one in ask(f"{prometheus}/api/v1/targets")["activeTargets"] if one["labels"]["instance"] == "web"]
    assert web["labels"]["environment"] == "production"
    found = ask(f"{prometheus}/api/v1/query?query=node_filesystem_avail_bytes")["result"]
    assert [one["metric"]["mountpoint"] for one in found] == ["/"]  # of the disk with the containers
    names = ("production-web", *(f"observe-{part}" for part in PARTS))
    wait_until(lambda: audited(tiny) == {f"{project}-{name}": {} for name in names})
    image = tiny.tool("podman", "inspect", "--format", "{{.ImageName}}", f"{project}-observe-node-exporter").strip()
    labels = (f"{PROJECT}={project}", f"{ENVIRONMENT}=observe", f"{SERVICE}=node-exporter")
    options = [f"--label={label}" for label in labels]
    tiny.tool("podman", "run", "--detach", "--name=rogue", "--user=0", "--volume=/srv", *options, image)
    assert audited(tiny)["rogue"].keys() >= {"process-root", "root-writable", "writable-place"}
    tiny.tool("podman", "rm", "--force", "--time=0", "--volumes", "rogue")
    observed.say(9)
    wait_until(lambda: observed.receiver.told("WebSays"))
    [alert] = [one for one in observed.receiver.alerts if one["labels"]["alertname"] == "WebSays"]
    assert (alert["labels"]["service"], alert["labels"]["project"]) == ("web", project)
    kept = tiny.tool("podman", "ps", "--format", "{{.ID}}")
    assert "replaced" not in observed.run("production", "--no-build")
    assert tiny.tool("podman", "ps", "--format", "{{.ID}}") == kept

    tiny.write("ops/rules.yml", _RULES.replace("web_says > 5", "web_says >"))  # a rule that is none
    failed = observed.session("production", "--no-build", "--timeout", "60")
    assert "prometheus ended with exit code" in one_error(failed, 1)
    assert "own-0-rules.yml" in failed.text  # of its log
    again = observed.address("prometheus")
    wait_until(lambda: up(again).get("web") == "up")  # the old one, with its old rules
    tiny.write("ops/rules.yml", _RULES)

    ended = tiny.run("up", "production", "--down")
    assert ended.code == 0, ended.text
    assert "ended: " in observed.run("production", "--down")
    assert tiny.tool("podman", "ps", "--all", "--quiet") == ""
    assert project not in tiny.tool("podman", "network", "ls")
    assert f"{project}-observe-prometheus" in tiny.tool("podman", "volume", "ls")
    observed.run("production", "--down", "--volumes")
    assert project not in tiny.tool("podman", "volume", "ls")
