"""Texts of errors: sealed where content is, opened for their tenant, and never waited for."""

import time

import pytest

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.error_texts import AWAY, CLEAR, ErrorTexts
from hookstream.codecs.sealed import KEYS, month_of
from tests.support.data_keys import new_key, sealing

TEXT = "ValueError: no customer jane@example.com"


async def test_what_is_sealed_is_opened_for_its_tenant_alone(name: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    errors = ErrorTexts(sealing(now_ms))
    key = new_key(name, month_of(now_ms))
    kept = errors.seal(name, TEXT)
    assert kept.startswith("sealed:2:")
    assert "jane" not in kept
    assert await errors.open(name, kept) == await errors.shown(name, kept) == TEXT
    assert await errors.opened(name, [kept, "in the clear", ""]) == [TEXT, "in the clear", ""]
    # somebody has copied it
    assert await errors.open(f"{name}-b", kept) == kept
    assert await errors.open(name, "sealed:2:no text of ours") == "sealed:2:no text of ours"
    KEYS.destroy(key.key_id)
    assert await errors.shown(name, kept) == ""


async def test_a_key_that_is_away_is_said_in_its_place(name: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    errors = ErrorTexts(sealing(now_ms))
    key = new_key(name, month_of(now_ms))
    kept = errors.seal(name, TEXT)
    # another process has it, and PostgreSQL is away
    KEYS._drop(key.key_id)
    assert errors.seal(name, TEXT) == AWAY
    assert await errors.shown(name, kept) == AWAY
    with pytest.raises(SealingKeyError):
        await errors.open(name, kept)


async def test_nothing_is_sealed_where_nothing_is_to_be(name: str) -> None:
    new_key(name, month_of(time.time_ns() // 1_000_000))
    errors = ErrorTexts(sealing(time.time_ns() // 1_000_000))
    assert CLEAR.seal(name, TEXT) == TEXT
    assert await CLEAR.shown(name, TEXT) == TEXT
    # of what could not be read, and of nothing
    assert errors.seal("", TEXT) == TEXT
    assert errors.seal(name, "") == ""
