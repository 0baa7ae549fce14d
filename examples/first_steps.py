"""Make a tool, a context and a subscription: after this a signed GitHub webhook reaches agent-1.

python examples/first_steps.py [URL]     with the key in HOOKSTREAM_ADMIN_KEY or the state folder

The tool's secret is made once, and kept in .hookstream/github.secret (HOOKSTREAM_STATE_DIR).
"""

import asyncio
import os
import secrets
import sys
from pathlib import Path

import aiohttp

STATE = Path(os.environ.get("HOOKSTREAM_STATE_DIR", ".hookstream"))
SECRET = STATE / "github.secret"
WANTED = {
    "tools/github": {"provider": "github"},
    "contexts/agent-1": {"name": "The agent that looks after our pull requests"},
    "contexts/agent-1/subscriptions/pulls": {"tool": "github", "types": ["pull_request.*"]},
}


async def first_steps(url: str, key: str) -> None:
    """PUT each of ``WANTED``; doing it twice changes nothing."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for path, body in WANTED.items():
            if path.startswith("tools/"):
                body = {**body, "secrets": [kept_secret()]}
            async with session.put(f"{url}/api/v1/{path}", json=body) as response:
                print(response.status, path, "" if response.ok else await response.text())
                if not response.ok:
                    sys.exit(1)


def kept_secret() -> str:
    """The secret in its file, which only its owner reads; a new one where there is none yet."""
    if not SECRET.exists():
        SECRET.parent.mkdir(mode=0o700, exist_ok=True)
        SECRET.touch(0o600)
        SECRET.write_text(secrets.token_hex(24))
    return SECRET.read_text().strip()


if __name__ == "__main__":
    here = f"http://127.0.0.1:{os.environ.get('HOOKSTREAM_WEB_PORT', '6066')}"
    address = sys.argv[1] if len(sys.argv) > 1 else here
    try:
        admin_key = os.environ.get("HOOKSTREAM_ADMIN_KEY") or (STATE / "admin.key").read_text()
        asyncio.run(first_steps(address, admin_key.strip()))
    except (OSError, aiohttp.ClientError) as error:
        sys.exit(f"{error}: is Hookstream up, and is this run where it is?")
