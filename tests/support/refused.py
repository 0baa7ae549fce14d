"""A webhook that was refused."""

from hookstream.app.ingest.refusals import Refusal

__all__ = ["REFUSED"]

REFUSED = Refusal(
    at_ms=1_764_000_000_000,
    tool_id="a",
    status=401,
    reason="bad-signature",
    detail="it does not verify",
    address="192.0.2.1",
    method="POST",
    origin="https://hooks.example.com",
    path="/hooks/a?x=1",
    headers={"x-signature": ("one", "two"), "x-odd": ("\udcff\u00e9",)},
    body=b"\x00\xff{}",
    body_bytes=4,
    whole=True,
)
