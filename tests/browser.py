"""Chromium without a window, driven through its debugging pipe, for the length of a ``with`` block."""

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
    "--disable-extensions", "--no-default-browser-check", "--hide-scrollbars", "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
_PATIENCE_S = 20
_CONTRAST = """(() => {
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length === 3) return colour;
        }
        return [255, 255, 255];
    };
    const speaks = (e) => e.offsetParent && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    return [...document.querySelectorAll(SELECTOR)].filter(speaks).map((e) => {
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
        return [e.tagName, e.textContent.slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });
})()"""
"""Contrast of text as WCAG 2 measures it."""


class Browser:
    """One page of a browser; ``requests`` are all that it asked for, ``errors`` all that it complained about."""

    def __init__(self, *, width=1280, height=800):
        self._size = width, height
        self.requests, self.errors = [], []

    def __enter__(self):
        self._folder = TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._to = os.pipe()
        self._from, from_write = os.pipe()
        self._process = subprocess.Popen(
            # the browser reads from descriptor 3 and writes to 4
            ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}', CHROMIUM, *_FLAGS,
             f"--user-data-dir={self._folder.name}", "--window-size={},{}".format(*self._size)],
            pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        self._numbers, self._answers, self._news = itertools.count(1), {}, threading.Condition()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(*self._size)
        return self

    def __exit__(self, *_):
        self._session = None
        self.call("Browser.close")
        self._process.wait(30)
        self._reader.join(10)
        os.close(self._to)
        os.close(self._from)
        self._folder.cleanup()

    def call(self, method, **parameters):
        """Ask the browser something and wait for the answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        with self._news:
            assert self._news.wait_for(lambda: number in self._answers, _PATIENCE_S), f"no answer to {method}"
            answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def resize(self, width, height, *, touch=False):
        """Become a window of another size, or a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def open(self, url):
        """Go to a page, also if only what follows # is another."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def ask(self, script):
        """The value of an expression on the page; a promise is waited for."""
        told = self._evaluate(script)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, script):
        """Wait until an expression is true, and give its value; a page that is not there yet is waited for."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            told = self._evaluate(script)
            if "exceptionDetails" not in told and told["result"].get("value"):
                return told["result"]["value"]
            time.sleep(0.05)
        raise AssertionError(f"never came true: {script}\n{told}\n{self.errors}\n{self.text('body')}")

    def wait_for_request(self, pattern, since=0):
        """Wait until the page has asked for an address that matches, and give the request."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            for request in self.requests[since:]:
                if re.search(pattern, request["url"]):
                    return request
            time.sleep(0.05)
        raise AssertionError(f"never asked for: {pattern}\n{[request['url'] for request in self.requests[since:]]}")

    def _evaluate(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)

    def text(self, selector):
        """What an element says."""
        return self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def find_weak_text(self, selector):
        """Elements whose text has less contrast than WCAG 2 asks for (AA, 4.5)."""
        told = self.ask(_CONTRAST.replace("SELECTOR", json.dumps(selector)))
        assert len(told) > 10, "nothing was looked at"
        return [entry for entry in told if entry[2] < 4.5]

    def click(self, x, y, *, count=1):
        """Click, or double-click, as a mouse does."""
        self.move(x, y)
        for number in range(1, count + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=number)

    def press_button(self, selector):
        """Click an element where it is seen."""
        self.ask(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        self.click(*self.ask(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        ))  # fmt: skip

    def move(self, x, y):
        """Move the pointer."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, start, end):
        """Drag in steps, and rest before letting go, so that nothing keeps sliding."""
        self.move(*start)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], button="left", clickCount=1)
        for part in (0.3, 0.6, 1, 1):
            x, y = (a + (b - a) * part for a, b in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
            time.sleep(0.1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left", clickCount=1)

    def turn_wheel(self, x, y, by):
        """Turn the wheel; negative is away from the person."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    def tap(self, x, y):
        """Touch with a finger."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key, code=0):
        """Press a key."""
        more = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text):
        """Put text where the cursor is."""
        self.call("Input.insertText", text=text)

    def picture(self, path):
        """Save what is seen as PNG."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _listen(self):
        pending = b""
        while chunk := os.read(self._from, 1 << 16):
            *messages, pending = (pending + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    with self._news:
                        self._answers[message["id"]] = message
                        self._news.notify_all()
                else:
                    self._note(message["method"], message["params"])

    def _note(self, event, facts):
        if event == "Network.requestWillBeSent":
            self.requests.append(facts["request"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(facts["exceptionDetails"])
        elif event == "Runtime.consoleAPICalled" and facts["type"] in {"error", "warning", "assert"}:
            self.errors.append([part.get("value", part.get("description")) for part in facts["args"]])
        elif event == "Log.entryAdded" and facts["entry"]["level"] in {"error", "warning"}:
            self.errors.append((facts["entry"]["text"], facts["entry"].get("url")))
