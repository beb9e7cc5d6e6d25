"""Headless Chromium over its debugging pipe, and axe-core to run in it."""

import base64
import importlib.util
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

PATIENCE = 180.0  # seconds
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


def axe() -> Path | None:
    """axe-core's script from the package that carries it; its own dependency, a browser's driver, is not needed."""
    found = importlib.util.find_spec("axe_playwright_python")
    folders = list(found.submodule_search_locations or []) if found else []
    return next((path for folder in folders if (path := Path(folder) / "axe.min.js").is_file()), None)


class Browser:
    """Headless Chromium over its debugging pipe: no port, no client library."""

    def __init__(self, program: str, profile: Path):
        give, self.take = os.pipe()
        self.read, put = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        wired = f'exec "$0" "$@" 3<&{give} 4>&{put}'
        command = ["bash", "-c", wired, program, *flags, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=(give, put), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(give)
        os.close(put)
        self.buffer, self.number, self.events = b"", 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    session = None

    def _next(self) -> dict:
        while b"\0" not in self.buffer:
            assert select.select([self.read], [], [], PATIENCE)[0], "the browser has said nothing for minutes"
            chunk = os.read(self.read, 1 << 16)
            assert chunk, "the browser went away"
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **params) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.take, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def parsed(self, promise: str) -> dict:
        """What a promise of JSON gives."""
        answer = self.call("Runtime.evaluate", expression=promise, awaitPromise=True, returnByValue=True)["result"]
        return json.loads(answer["value"])

    def serious(self, script: Path) -> list[tuple[str, str]]:
        """What axe-core finds serious on the page that is open: rule and element."""
        self.call("Runtime.evaluate", expression=script.read_text(encoding="utf-8"))
        found = self.parsed(f"axe.run({{runOnly: {WCAG}}}).then(found => JSON.stringify(found))")
        assert len(found["passes"]) > 15, "axe-core really looked"
        return [(one["id"], one["nodes"][0]["html"]) for one in found["violations"] if one["impact"] in ("serious", "critical")]

    def shoot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.take)
        os.close(self.read)
