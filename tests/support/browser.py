"""A real browser: Chromium without a window, driven by its DevTools protocol over a WebSocket.

Keys and clicks are those of a person: they go to where an element is, and reach whatever is there.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.stack import eventually

__all__ = ["Page", "browser", "find_chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 60.0
CALL_SECONDS = 30.0
#: How often a page may make way for another while something is asked of it.
NAVIGATIONS = 20


def find_chromium() -> str | None:
    """Where it is; None where this machine has none (Debian's package is `chromium`)."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab; ``troubles`` has what went wrong in it: exceptions, what its policy forbids."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.troubles: list[str] = []
        #: Addresses that were asked for, with their method.
        self.asked: list[str] = []

    async def listen(self) -> None:
        """Take what the browser says, until it is closed."""
        async for message in self._websocket:
            said = json.loads(message.data)
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if not answer.done():
                    answer.set_result(said)
            else:
                self._note(said["method"], said["params"])

    def _note(self, what: str, told: dict[str, Any]) -> None:
        if what == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(told["exceptionDetails"]))
        elif what == "Log.entryAdded" and told["entry"]["source"] == "security":
            self.troubles.append(told["entry"]["text"])
        elif what == "Network.requestWillBeSent":
            self.asked.append(f"{told['request']['method']} {told['request']['url']}")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and what it gives."""
        for _ in range(NAVIGATIONS):
            number = next(self._numbers)
            answer = self._answers[number] = asyncio.get_running_loop().create_future()
            await self._websocket.send_json({"id": number, "method": method, "params": parameters})
            async with asyncio.timeout(CALL_SECONDS):
                said = await answer
            # it was asked while one page made way for another: the next one can be asked
            if "navigated" not in said.get("error", {}).get("message", ""):
                break
            await asyncio.sleep(0.1)
        assert "error" not in said, (method, said["error"])
        return dict(said["result"])

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        said = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, (script, said["exceptionDetails"])
        return said["result"].get("value")

    async def open(self, url: str) -> None:
        """Go there, and wait until all of its scripts have run."""
        await self.call("Page.navigate", url=url)

        async def loaded() -> bool:
            said = await self.run("[document.readyState, location.href]")
            return bool(said == ["complete", url])

        await eventually(loaded, f"{url} is loaded")

    async def text(self, selector: str) -> str:
        """What an element says, as it is seen."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def texts(self, selector: str) -> list[str]:
        """What each of some elements says."""
        script = f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)"
        return list(await self.run(script))

    async def sees(self, selector: str) -> bool:
        """Whether there is such an element, and it is shown."""
        script = f"document.querySelector({json.dumps(selector)})?.checkVisibility() ?? false"
        return bool(await self.run(script))

    async def click(self, selector: str) -> None:
        """Click where it is, once it stays there: what covers it has the click."""
        x, y = await self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def _middle(self, selector: str) -> tuple[float, float]:
        assert await self.sees(selector), f"{selector} is not to be seen"
        script = f"""(async () => {{
            const element = document.querySelector({json.dumps(selector)});
            const frame = () => new Promise(requestAnimationFrame);
            let last = "";
            for (;;) {{
                element.scrollIntoView({{ block: "center", behavior: "instant" }});
                const box = element.getBoundingClientRect();
                const middle = [box.x + box.width / 2, box.y + box.height / 2];
                if (last === JSON.stringify(box)) return middle;
                last = JSON.stringify(box);
                await frame();
                await frame();
            }}
        }})()"""
        x, y = await self.run(script)
        return x, y

    async def type(self, selector: str, text: str) -> None:
        """Click into a field, and type in place of what it has."""
        active = f"document.activeElement === document.querySelector({json.dumps(selector)})"

        async def is_in() -> bool:
            # what comes in meanwhile may push it away from under the click
            await self.click(selector)
            return bool(await self.run(active))

        await eventually(is_in, f"the cursor is in {selector}")
        await self.run("document.activeElement.select()")
        await self.call("Input.insertText", text=text)

    async def choose(self, selector: str, value: str) -> None:
        """Choose of a list; the list itself is drawn by the system, not by the page."""
        script = f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.value = {json.dumps(value)};
            element.dispatchEvent(new Event("change", {{ bubbles: true }}));
            return element.value;
        }})()"""
        assert await self.run(script) == value

    async def press(self, key: str) -> None:
        """Press a key, such as ``Escape``, and let it go."""
        codes = {"Escape": 27, "Enter": 13, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=codes[key],
            )  # fmt: skip

    async def picture(self, path: Path) -> None:
        """All of the page as a PNG."""
        said = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(said["data"]))


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """A browser with nothing in it, and its one page; ``folder`` is its profile's."""
    program = find_chromium()
    assert program is not None, "there is no Chromium here"
    # its sandbox is not to be had as root; it sees nothing but what a test serves
    process = await asyncio.create_subprocess_exec(
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--window-size=1200,900", "--remote-debugging-port=0", f"--user-data-dir={folder}",
        "about:blank",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    try:
        said = folder / "DevToolsActivePort"

        async def listens() -> bool:
            assert process.returncode is None, f"{program} has ended: {process.returncode}"
            return said.exists() and len(said.read_text().split()) == 2

        await eventually(listens, "the browser listens", START_SECONDS)
        port = said.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                tabs = await response.json(content_type=None)
            place = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(place, max_msg_size=0) as websocket:
                page = Page(websocket)
                listening = asyncio.create_task(page.listen())
                try:
                    for part in ("Page", "Runtime", "Log", "Network"):
                        await page.call(f"{part}.enable")
                    yield page
                finally:
                    listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
