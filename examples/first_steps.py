"""Make a tool, a context and a subscription: after this a signed GitHub webhook reaches agent-1.

python examples/first_steps.py [URL]     with the key in HOOKSTREAM_ADMIN_KEY or .hookstream/
"""

import asyncio
import os
import sys
from pathlib import Path

import aiohttp

WANTED = {
    "tools/github": {"provider": "github", "secrets": ["s3cret"]},
    "contexts/agent-1": {"name": "The agent that looks after our pull requests"},
    "contexts/agent-1/subscriptions/pulls": {"tool": "github", "types": ["pull_request.*"]},
}


async def first_steps(url: str, key: str) -> None:
    """PUT each of ``WANTED``; doing it twice changes nothing."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for path, body in WANTED.items():
            async with session.put(f"{url}/api/v1/{path}", json=body) as response:
                print(response.status, path, "" if response.ok else await response.text())


if __name__ == "__main__":
    here = f"http://127.0.0.1:{os.environ.get('HOOKSTREAM_WEB_PORT', '6066')}"
    address = sys.argv[1] if len(sys.argv) > 1 else here
    admin_key = os.environ.get("HOOKSTREAM_ADMIN_KEY") or Path(".hookstream/admin.key").read_text()
    asyncio.run(first_steps(address, admin_key.strip()))
