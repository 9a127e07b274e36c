"""A real headless Chromium over the W3C WebDriver protocol: chromedriver and the standard library, nothing else."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from forked import HANGS

NAMES = ("chromium", "chromium-browser", "google-chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def missing() -> str | None:
    """Why no browser can be had, or None."""
    if shutil.which("chromedriver") is None:
        return "no chromedriver on PATH"
    return None if any(map(shutil.which, NAMES)) else f"none of {', '.join(NAMES)} on PATH"


class Browser:
    """One window."""

    def __init__(self, profile: Path, dark: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.at = f"http://127.0.0.1:{free.getsockname()[1]}"
        port = self.at.rpartition(":")[2]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        arguments += ["--window-size=1400,1100", f"--user-data-dir={profile}", *(["--force-dark-mode"] if dark else [])]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": next(filter(None, map(shutil.which, NAMES))), "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        deadline = time.monotonic() + HANGS
        while True:
            try:
                made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
                break
            except (ConnectionError, urllib.error.URLError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self.session = f"/session/{made['sessionId']}"

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait(HANGS)

    def _call(self, verb: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.at + path, data, {"Content-Type": "application/json"}, method=verb)
        with urllib.request.urlopen(request, timeout=HANGS) as reply:
            return json.load(reply)["value"]

    def open(self, page: Path) -> None:
        self._call("POST", f"{self.session}/url", {"url": page.resolve().as_uri()})

    def js(self, script: str, *values: Any) -> Any:
        """What a function body returns."""
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": values})

    def until(self, script: str, seconds: float = HANGS) -> Any:
        """The first true value of an expression."""
        deadline = time.monotonic() + seconds
        while not (found := self.js(f"return {script}")):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)
        return found

    def keys(self, selector: str, text: str) -> None:
        """Type into an element."""
        found = self._call("POST", f"{self.session}/element", {"using": "css selector", "value": selector})
        self._call("POST", f"{self.session}/element/{found[ELEMENT]}/value", {"text": text})

    def complaints(self) -> list[str]:
        """Everything the console holds at warning or above."""
        lines = self._call("POST", f"{self.session}/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """Every address asked for since the last call."""
        lines = self._call("POST", f"{self.session}/se/log", {"type": "performance"})
        events = [json.loads(line["message"])["message"] for line in lines]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def resize(self, width: int, height: int = 1100) -> None:
        """The page's own size; a window cannot be this narrow."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        body = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._call("POST", f"{self.session}/goog/cdp/execute", body)

    def media(self, kind: str) -> None:
        """Show the page as on "print" or "screen"; "": as usual."""
        body = {"cmd": "Emulation.setEmulatedMedia", "params": {"media": kind}}
        self._call("POST", f"{self.session}/goog/cdp/execute", body)

    def printed(self, width: float = 21.0, height: float = 29.7) -> bytes:
        """The page as PDF, on paper of so many centimetres."""
        body = {"page": {"width": width, "height": height}, "background": False}
        return base64.b64decode(self._call("POST", f"{self.session}/print", body))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", f"{self.session}/screenshot")))
