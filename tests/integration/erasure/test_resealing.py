"""What a data key has sealed, looked for in all of Redis."""

from typing import Any

from hookstream.app.erasure.resealing import sealed_by
from hookstream.codecs.sealed import sealed_head
from tests.support.data_keys import new_key


async def test_what_a_key_has_sealed_is_found_wherever_it_lies(redis_client: Any) -> None:
    old, new = new_key(known=False), new_key(known=False)
    head, value = sealed_head(old.key_id), old.seal(b"x", b"")
    places = {
        "events stream": ("xadd", "{hs:1}:events", {"d": b"an envelope " + value}),
        "feeds": ("xadd", "{hs:0}:feed:default/c", {"d": value}),
        "refusals": ("xadd", "hs:refusals:default/t", {"r": value}),
        "lists of digests": ("rpush", "{hs:0}:folded:default/c:4", value),
        "throttled updates": ("rpush", "{hs:0}:withheld:default/c", value),
        "failed events": ("hset", "{hs:0}:letter:1", "raw", b"1" + value),
        "payloads beside their stream": ("set", "{hs:0}:blob:1", value),
        "warm blocks": ("set", "{hs:0}:warm:default/t:1-0", value),
        "dictionaries": ("set", "hs:dictionary:1", value),
    }
    for call, *arguments in places.values():
        await getattr(redis_client, call)(*arguments)
    await redis_client.zadd("{hs:0}:warm:default/t", {"1-0:1-0:1:1": 1})
    found = await sealed_by(redis_client, 2, "default", [head])
    assert found == dict.fromkeys(places, 1)
    assert not await sealed_by(redis_client, 2, "default", [sealed_head(new.key_id)])
