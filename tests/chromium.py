"""A small driver of a headless Chromium, for tests that look at a page as a person does.

It speaks the DevTools protocol over `--remote-debugging-pipe`: JSON messages that end with NUL, on the browser's
descriptors 3 (to it) and 4 (from it); no port, no dependency. A thread files what arrives; callers wait for it with a
bound. Clicks and keys are real input events at the place where the element is, so what is covered is not clicked.

    with Browser(folder) as browser:
        page = browser.open("http://127.0.0.1:8080/")
        page.wait_for("document.querySelector('textarea')")
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--window-size=1600,900",
    # A machine without a mouse has one here: pages show some buttons only to who can hover.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
    "--remote-debugging-pipe",
)
# Puts the two pipes where the browser looks for them. (A shell's redirections know one digit, a fork in a process
# with threads may dead-lock.)
_EXEC = "import os,sys\nfor n in 0,1: os.dup2(int(sys.argv[1+n]),3+n)\nos.execv(sys.argv[3],sys.argv[3:])"
# The first visible element of a selector, and with a text: the innermost one that shows (or is labelled by) it.
_FIND = """
(selector, text) => {
  const shown = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const says = e => [e.innerText, e.getAttribute('aria-label'), e.title].some(t => t && t.trim() === text);
  let found = [...document.querySelectorAll(selector)].filter(e => shown(e) && (text === null || says(e)));
  return text === null ? found[0] : found.find(e => !found.some(other => other !== e && e.contains(other)));
}
"""
# Where to click on an element, or null while something else covers that place.
_MIDDLE = """
element => {
  element.scrollIntoView({block: 'nearest', behavior: 'instant'});
  const r = element.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
  return element.contains(document.elementFromPoint(x, y)) ? {x, y} : null;
}
"""
_PAUSE = threading.Event()


class BrowserError(AssertionError):
    """The browser refused something, died, or what was waited for did not come."""


@dataclass
class Request:
    """One request of a page, as the network saw it."""

    method: str
    url: str
    status: int | None = None
    failure: str | None = None


@dataclass
class Traffic:
    """What a page said on its console and asked of the network."""

    console: list[str] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)

    def note(self, event: str, what: dict[str, Any]) -> None:
        """File one event of the page."""
        match event:
            case "Runtime.consoleAPICalled" if what["type"] == "error":
                self.console.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in what["args"]))
            case "Runtime.exceptionThrown":
                details = what["exceptionDetails"]
                self.console.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded" if what["entry"]["level"] == "error":
                self.console.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests[what["requestId"]] = Request(what["request"]["method"], what["request"]["url"])
            case "Network.responseReceived" if what["requestId"] in self.requests:
                self.requests[what["requestId"]].status = what["response"]["status"]
            case "Network.loadingFailed" if what["requestId"] in self.requests:
                self.requests[what["requestId"]].failure = what["errorText"]


class Browser:
    """One Chromium with an empty profile in `folder`."""

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, _BROWSERS)), None)
        assert program is not None, "no Chromium"
        self._log = folder / "chromium.log"
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]
        profile = folder / "profile"
        command = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _EXEC, *map(str, theirs), *command],
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        for end in (theirs_in, theirs_out, *theirs):
            os.close(end)
        self._out, self._in = ours_out, ours_in
        self._news = threading.Condition()
        self._replies: dict[int, dict[str, Any]] = {}
        self._traffic: defaultdict[str, Traffic] = defaultdict(Traffic)
        self._number = 0
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser: politely, else by a signal to its whole session."""
        with contextlib.suppress(BrowserError, OSError):
            self.call("Browser.close", seconds=5)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._out)
        self._reader.join(5)
        os.close(self._in)

    def call(self, method: str, session: str | None = None, seconds: float = 60, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        with self._news:
            self._news.wait_for(lambda: number in self._replies or self._ended, seconds)
            reply = self._replies.pop(number, None)
        if reply is None:
            raise BrowserError(
                f"{method}: no answer in {seconds} s; the browser says:\n{self._log.read_text()[-2000:]}"
            )
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error']['message']}")
        result: dict[str, Any] = reply["result"]
        return result

    def open(self, url: str) -> Page:
        """A new page, which goes to an address at once."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, self._traffic[session])
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.navigate(url)
        return page

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._in, 1 << 16):
            *messages, rest = (rest + chunk).split(b"\0")
            with self._news:
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._replies[message["id"]] = message
                    elif "sessionId" in message:
                        self._traffic[message["sessionId"]].note(message["method"], message["params"])
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, traffic: Traffic) -> None:
        self._browser = browser
        self._session = session
        self._traffic = traffic

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, to this page."""
        return self._browser.call(method, self._session, **params)

    def navigate(self, url: str) -> None:
        """Go to an address, and wait for the document (not for what its scripts do then)."""
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.wait_for(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    def reload(self) -> None:
        """Load the page anew, as F5 does, and wait for the document."""
        self.evaluate("window.beforeReload = true")
        self.call("Page.reload")
        self.wait_for("!window.beforeReload && document.readyState === 'complete'", seconds=20)

    def evaluate(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 20) -> None:
        """Until an expression is true. An error of it counts as "not yet": a page may be on its way."""
        end = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < end:
            try:
                last = self.evaluate(f"Boolean({condition})")
            except BrowserError as error:
                last = error
            if last is True:
                return
            _PAUSE.wait(0.02)
        raise BrowserError(f"not true after {seconds} s ({last}): {condition}\nthe page shows:\n{self.text()[:2000]}")

    def text(self) -> str:
        """What the page shows, as text."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def click(self, selector: str = "*", text: str | None = None, seconds: float = 20) -> None:
        """Wait for a visible element, by selector or by its whole text or label, and click in its middle."""
        where = self.hover(selector, text, seconds)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def hover(self, selector: str, text: str | None = None, seconds: float = 20) -> dict[str, float]:
        """Put the pointer over the middle of a visible element; returns where that is."""
        find = f"({_FIND})({json.dumps(selector)}, {json.dumps(text)})"
        self.wait_for(f"({_MIDDLE})({find})", seconds)
        where: dict[str, float] = self.evaluate(f"({_MIDDLE})({find})")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **where)
        return where

    def type(self, selector: str, text: str) -> None:
        """Click into a field and write."""
        self.click(selector)
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """A key without a character, or Enter."""
        codes = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, "")}
        code, character = codes[key]
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=character if kind == "keyDown" else "",
            )

    def screenshot(self, file: Path) -> Path:
        """What the window shows, as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return file

    def console_errors(self) -> list[str]:
        """Errors of the console, uncaught exceptions and the browser's own log."""
        return list(self._traffic.console)

    def requests(self) -> list[Request]:
        """Every request so far, in the order in which they began."""
        return list(self._traffic.requests.values())

    def failed_requests(self) -> list[Request]:
        """Those that were answered with an error, or not at all (one that the page itself gave up is none)."""
        return [
            request
            for request in self.requests()
            if (request.status or 0) >= 400 or (request.failure is not None and request.failure != "net::ERR_ABORTED")
        ]
