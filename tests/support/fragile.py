"""A system with one more stage, which can be made to fail."""

import json
from pathlib import Path
from typing import Any

from tests.support.stack import Stack, eventually

__all__ = ["Fragile"]

#: Makes the folder beside it one more place to find stages in.
SITE = """
import hookstream.agents
hookstream.agents.__path__.append({folder!r})
"""

STAGE = '''
"""A stage that fails on what says so, until a file says that it is healed."""
from pathlib import Path
from hookstream.app.main import app

@app.stage(after="dedupe")
async def fragile(event):
    wish = event.data() or {{}}
    if wish.get("poison") and not Path({folder!r}, wish["poison"]).exists():
        raise ValueError(f"poison {{wish['n']}}")
    return event
'''


class Fragile(Stack):
    """A system whose stage `fragile` fails on {"poison": NAME} until :meth:`heal` (NAME)."""

    def __init__(self, folder: Path, **settings: str) -> None:
        stages = folder / "stages"
        stages.mkdir()
        (stages / "fragile.py").write_text(STAGE.format(folder=str(stages)))
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(folder=str(stages)))
        self.stages = stages
        mine = {
            "PYTHONPATH": f"{site}:{Path.cwd()}",
            "HOOKSTREAM_RETRY_BASE_SECONDS": "0.2",
            "HOOKSTREAM_RETRY_MAX_SECONDS": "0.5",
            "HOOKSTREAM_RETRY_MAX_ATTEMPTS": "3",
            "HOOKSTREAM_BREAKER_FAILURES": "6",
            "HOOKSTREAM_BREAKER_WAIT_SECONDS": "0.5",
        }
        super().__init__(folder, **{**mine, **settings})

    def heal(self, name: str) -> None:
        (self.stages / name).touch()

    async def post(self, tool: str, n: int, poison: str = "") -> str:
        return await self.hook(tool, json.dumps({"n": n, "poison": poison}).encode())

    async def status(self, event_id: str) -> str:
        return str((await self.get(f"/events/{event_id}"))["status"])

    async def becomes(self, event_id: str, status: str) -> None:
        async def reached() -> bool:
            return await self.status(event_id) == status

        await eventually(reached, f"{event_id} is {status}")

    async def failed_event(self, event_id: str) -> dict[str, Any]:
        return await self.get(f"/dead-letters/{event_id}")

    async def state(self, event_id: str) -> str:
        """The state of its letter; "" while there is none."""
        async with (
            self.session() as session,
            session.get(f"/api/v1/dead-letters/{event_id}") as response,
        ):
            return str((await response.json())["state"]) if response.status == 200 else ""

    async def call(self, method: str, path: str, **body: Any) -> int:
        async with (
            self.session() as session,
            session.request(method, f"/api/v1{path}", json=body or None) as response,
        ):
            return response.status
