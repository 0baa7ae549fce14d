"""Which key counts, until when, and what is noted of its use."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hookstream.app.errors import UnavailableError
from hookstream.app.roles import Role
from hookstream.app.stores.catalog_rows import Rows, decode_rows, encode_rows, keys_from_row
from hookstream.app.stores.catalog_state import build
from hookstream.app.stores.key_uses import KeyUses
from hookstream.app.web.api_keys import NewKey

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def row(**changed: Any) -> dict[str, Any]:
    return {
        "key_id": "key-1",
        "tenant": "t",
        "name": "ci",
        "role": "operator",
        "hash": b"\1" * 32,
        "contexts": [],
        "created_at": NOW,
        "expires_at": None,
        "previous_hash": None,
        "previous_until": None,
        **changed,
    }


def test_a_key_is_known_by_its_beginning_and_kept_as_a_hash() -> None:
    agent, program = NewKey.of(Role.AGENT), NewKey.of(Role.OWNER)
    assert (agent.text[:4], program.text[:4]) == ("hsa_", "hsk_")
    assert program.text.startswith(program.prefix)
    assert len(program.prefix) == 10
    assert len({program.hash, NewKey.of(Role.OWNER).hash}) == 2


def test_a_key_has_its_role_and_only_an_agent_s_has_contexts() -> None:
    [(digest, key)] = keys_from_row(row()).items()
    assert (digest, key.role, key.contexts, key.until) == (
        b"\1" * 32, Role.OPERATOR, None, float("inf"),
    )  # fmt: skip
    [key] = keys_from_row(row(role="agent", contexts=["c"])).values()
    assert key.contexts == frozenset({"c"})


@pytest.mark.parametrize("role", ["admin", "king"])
def test_a_role_that_no_key_can_have_opens_nothing(role: str) -> None:
    with pytest.raises(ValueError, match=role):
        keys_from_row(row(role=role))


def test_after_a_renewal_both_keys_count_and_the_old_one_ends_first() -> None:
    ends = NOW + timedelta(hours=1)
    found = keys_from_row(row(previous_hash="02" * 32, previous_until=ends))
    assert {digest: key.until for digest, key in found.items()} == {
        b"\1" * 32: float("inf"),
        b"\2" * 32: ends.timestamp(),
    }
    expires = NOW + timedelta(minutes=1)
    found = keys_from_row(row(previous_hash="02" * 32, previous_until=ends, expires_at=expires))
    assert {key.until for key in found.values()} == {expires.timestamp()}


def test_a_copy_on_disk_opens_the_same() -> None:
    ends = NOW + timedelta(hours=1)
    rows = [row(previous_hash="02" * 32, previous_until=ends, expires_at=ends)]
    [copied] = decode_rows(b"".join(encode_rows(Rows(1, 1, keys=rows)))).keys
    assert keys_from_row(copied) == keys_from_row(rows[0])
    # one of the release before
    old = {name: rows[0][name] for name in ("key_id", "tenant", "name", "hash", "created_at")}
    [key] = keys_from_row({**old, "contexts": ["c"]}).values()
    assert (key.role, key.contexts, key.until) == (Role.AGENT, frozenset({"c"}), float("inf"))


class Schemas:
    """Knows none."""

    async def understood(self, *_: Any, **__: Any) -> dict[Any, Any]:
        return {}


class Database:
    """Takes statements, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[tuple[Any, ...]] = []

    async def execute(self, query: str, *values: Any) -> str:
        if self.away:
            raise UnavailableError("away")
        self.written.append(values)
        return "INSERT 0 1"


async def test_uses_are_written_together_and_wait_for_the_database() -> None:
    database = Database()
    uses = KeyUses(database)  # type: ignore[arg-type]
    for at in range(1000):
        uses.used("t", "key-1", float(at))
    database.away = True
    with pytest.raises(UnavailableError):
        await uses.save()
    uses.used("t", "key-2", 5.0)
    database.away = False
    await uses.save()
    [(ids, tenants, times)] = database.written
    assert dict(zip(ids, times, strict=True)) == {
        "key-1": datetime.fromtimestamp(999, UTC),
        "key-2": datetime.fromtimestamp(5, UTC),
    }
    assert tenants == ["t", "t"]
    await uses.save()
    assert len(database.written) == 1
    # who lists the keys of one tenant writes no other's
    uses.used("t", "key-1", 1.0)
    uses.used("u", "key-3", 1.0)
    await uses.save("t")
    assert database.written[-1][0] == ["key-1"]
    await uses.save()
    assert database.written[-1][0] == ["key-3"]


async def test_a_key_that_is_renewed_or_revoked_opens_nothing_any_more() -> None:
    state = await build(Rows(1, 1, keys=[row()]), Schemas())
    assert set(state.catalog().keys) == {b"\1" * 32}
    renewed = row(hash=b"\2" * 32, previous_hash="01" * 32, previous_until=NOW)
    await state.apply(2, 2, {"keys": {("key-1",): renewed}})
    assert set(state.catalog().keys) == {b"\1" * 32, b"\2" * 32}
    again = row(hash=b"\3" * 32, previous_hash="02" * 32, previous_until=NOW)
    await state.apply(3, 3, {"keys": {("key-1",): again}})
    assert set(state.catalog().keys) == {b"\2" * 32, b"\3" * 32}
    await state.apply(4, 4, {"keys": {("key-1",): None}})
    assert state.catalog().keys == {}
