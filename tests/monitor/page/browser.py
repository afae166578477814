"""Chromium without a window, driven through its own protocol over two pipes: no port, no web socket, no other package.

Source: chromedevtools.github.io/devtools-protocol; messages on ``--remote-debugging-pipe`` end with a NUL byte.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

PROGRAMS = ("chromium-headless-shell", "chromium")
_PATIENCE = 60.0  # seconds; the suite may run while others do
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # the suite runs as root, too, and opens nothing but its own page
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def find_browser() -> str:
    """Return the program; empty if none is installed."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), "")


class BrowserPage:
    """A tab. ``console`` has what its scripts and the browser complain of, ``requested`` the addresses asked for."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.console: list[str] = []
        self.requested: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._from, 1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(details["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "warning", "assert"):
                self.console.append(json.dumps(details["args"]))
            case "Log.entryAdded" if details["entry"]["level"] in ("error", "warning"):
                self.console.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requested.append(details["request"]["url"])

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value; what it needs may not be there yet."""
        tried = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        return wait_until(lambda: self.evaluate(tried), lambda: f"{expression} did not become true; {self.console}")

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page a screen of this size."""
        scale = 2 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def prefer(self, colours: str) -> None:
        """Be a user who prefers ``light`` or ``dark``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": colours}])

    def press(self, key: str) -> None:
        """Press a key: ``Tab``, ``Enter``, ``ArrowLeft``."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "Home": 36}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def open_browser(folder: Path) -> Iterator[BrowserPage]:
    """Start the browser with a profile below ``folder``, and end it with the block."""
    down_out, down_in = os.pipe()
    up_out, up_in = os.pipe()

    connect = f'exec "$0" "$@" 3<&{down_out} 4>&{up_in}'  # the browser reads from 3 and writes to 4
    options = (*_OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank")
    process = subprocess.Popen(
        ("bash", "-c", connect, find_browser(), *options),
        pass_fds=(down_out, up_in),
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(down_out)
    os.close(up_in)
    try:
        page = BrowserPage(down_in, up_out)
        yield page
        page._session = None
        with suppress(AssertionError, OSError):
            page.call("Browser.close")
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        process.kill()
        process.wait()
        os.close(down_in)
        os.close(up_out)
