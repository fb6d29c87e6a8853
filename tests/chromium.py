"""Chromium without a window, driven through the DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_KEY_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}
_SHIFT = 8
# Chromium reads its commands from descriptor 3 and answers on 4.
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Page:
    """One tab."""

    def __init__(self, commands: IO[bytes], answers: IO[bytes]):
        self._commands, self._answers = commands, answers
        self._session: str | None = None
        self._last = 0
        self._is_touched = False
        self.events: list[dict[str, Any]] = []
        """all that happened: messages with `method` and `params`"""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._receive()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it is there."""
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 60) -> None:
        """Return when a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"still not so: {condition}"
            time.sleep(0.05)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, by its DOM name."""
        self.hold(key, shift=shift)
        self.release(key)

    def hold(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        details: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEY_CODES.get(key, 0)}
        if len(key) == 1:
            details["text"] = key
        if key.isdigit():
            details["code"] = f"Digit{key}"
        self.send(
            "Input.dispatchKeyEvent", type="keyDown", modifiers=_SHIFT if shift else 0, **details
        )

    def release(self, key: str) -> None:
        """Release a key."""
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Enter text where the focus is."""
        self.send("Input.insertText", text=text)

    def mouse(self, kind: str, x: float, y: float, **details: Any) -> None:
        """Do something with the mouse: mouseMoved, mousePressed, mouseReleased or mouseWheel."""
        is_left = kind in ("mousePressed", "mouseReleased") or details.get("buttons")
        self.send(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, button="left" if is_left else "none", clickCount=1, **details,
        )  # fmt: skip

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element that is scrolled to, in pixels of the window."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); "
            "e.scrollIntoView({block: 'nearest', behavior: 'instant'}); "
            "const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return x, y

    def touch(self, *fingers: tuple[float, float]) -> None:
        """Have these fingers, and no others, on the screen; those that were there move."""
        kind = "touchEnd" if not fingers else "touchMove" if self._is_touched else "touchStart"
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self._is_touched = bool(fingers)

    def resize(
        self, width: int, height: int, *, dark: bool = False, is_phone: bool = False
    ) -> None:
        """Change the window and the colour scheme; a phone has fingers and no mouse."""
        self.send("Emulation.setTouchEmulationEnabled", enabled=is_phone, maxTouchPoints=5)
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=3 if is_phone else 1, mobile=is_phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """Errors, warnings and uncaught exceptions so far."""
        self.run("0")
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] != "log":
                found.append(str(params["args"]))
            elif event.get("method") == "Log.entryAdded":
                found.append(params["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Everything that was asked for, without data URIs."""
        sent = [e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        urls = [params["request"]["url"] for params in sent]
        return [url for url in urls if not url.startswith("data:")]

    def _receive(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "chromium ended"
            message += byte
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def open_chromium() -> Iterator[Page]:
    """A fresh browser with one tab."""
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()
    theirs = read_commands, write_answers
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        os.fdopen(write_commands, "wb") as commands,
        os.fdopen(read_answers, "rb") as answers,
    ):
        launch = [sys.executable, "-S", "-c", _LAUNCH, *map(str, theirs)]
        browser = subprocess.Popen(
            [*launch, str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in theirs:
            os.close(end)
        try:
            yield Page(commands, answers)
        finally:
            browser.terminate()
            browser.wait(timeout=30)
