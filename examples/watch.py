"""A small client: prints a context's updates as they come, and acknowledges them.

python examples/watch.py CONTEXT [URL]     with the key in HOOKSTREAM_ADMIN_KEY or the state folder
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import aiohttp


async def watch(context: str, url: str, key: str) -> None:
    """Print updates for ever; after a lost connection go on where it broke off."""
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            try:
                async with session.ws_connect(f"{url}/contexts/{context}/updates") as socket:
                    print(f"watching {context}", flush=True)
                    async for message in socket:
                        update = message.json()
                        if update["type"] == "truncated":
                            # older than the feed keeps: what is there comes behind it
                            gone = update["digest"] or {"text": "kept no longer"}
                            print(f"{update['to_seq']:>5}  {gone['text']}", flush=True)
                            continue
                        if update["type"] != "update":
                            print(update, file=sys.stderr, flush=True)
                            continue
                        print(f"{update['seq']:>5}  {update['summary']}", flush=True)
                        # handled: a client that connects later begins behind this one
                        await socket.send_json({"type": "ack", "seq": update["seq"]})
            except aiohttp.ClientError as error:
                if isinstance(error, aiohttp.WSServerHandshakeError) and error.status < 500:
                    sys.exit(f"{error.status}: is the context made, and the key right?")
                print(f"{error}; trying again", file=sys.stderr, flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    here = f"http://127.0.0.1:{os.environ.get('HOOKSTREAM_WEB_PORT', '6066')}"
    address = sys.argv[2] if len(sys.argv) > 2 else here
    file = Path(os.environ.get("HOOKSTREAM_STATE_DIR", ".hookstream")) / "admin.key"
    try:
        admin_key = os.environ.get("HOOKSTREAM_ADMIN_KEY") or file.read_text()
    except OSError as error:
        sys.exit(f"{error}: run this where Hookstream runs, or set HOOKSTREAM_ADMIN_KEY")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(watch(sys.argv[1], address, admin_key.strip()))
