"""Signed times: near enough to this server's clock, or refused."""

import re
from datetime import UTC, datetime
from typing import Final

from hookstream.app.errors import SignatureError

__all__ = ["DIGITS", "check_age", "check_timestamp", "iso_seconds"]

DIGITS = re.compile(r"[0-9]{1,15}")
MAX_ISO_CHARS: Final = 40


def check_timestamp(
    text: str, now: float, tolerance_seconds: float, name: str, per_second: int = 1
) -> None:
    """The Unix time ``text`` (ASCII digits, so many ``per_second``) is near ``now``, either way.

    Raises:
        SignatureError: it is not such a number, or further away.
    """
    if not DIGITS.fullmatch(text):
        unit = "seconds" if per_second == 1 else "milliseconds"
        raise SignatureError(f"{name} is not a time in whole Unix {unit}")
    check_age(now - int(text) / per_second, tolerance_seconds, name)


def check_age(age_seconds: float, tolerance_seconds: float, name: str) -> None:
    """Refuse what is too old or too far ahead. Raises SignatureError."""
    if not abs(age_seconds) <= tolerance_seconds:
        side = "behind" if age_seconds > 0 else "ahead of"
        raise SignatureError(
            f"{name} is {min(abs(age_seconds), 1e9):.0f} s {side} this server's clock, where "
            f"{tolerance_seconds:.0f} s are allowed: check the clocks, or send it anew"
        )


def iso_seconds(text: str, name: str) -> float:
    """The Unix time of an ISO 8601 text. Raises SignatureError: it is none."""
    try:
        if len(text) > MAX_ISO_CHARS:
            raise ValueError
        time = datetime.fromisoformat(text)
    except ValueError:
        raise SignatureError(f"{name} is not a time as ISO 8601 has it") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
