"""Signed times: near enough to this server's clock, or refused."""

import re

from hookstream.app.errors import SignatureError

__all__ = ["DIGITS", "check_age", "check_timestamp"]

DIGITS = re.compile(r"[0-9]{1,15}")


def check_timestamp(text: str, now: float, tolerance_seconds: float, name: str) -> None:
    """The time ``text`` (whole Unix seconds, ASCII digits) is near ``now``, before or after.

    Raises:
        SignatureError: it is not such a number, or further away.
    """
    if not DIGITS.fullmatch(text):
        raise SignatureError(f"{name} is not a time in whole Unix seconds")
    check_age(now - int(text), tolerance_seconds, name)


def check_age(age_seconds: float, tolerance_seconds: float, name: str) -> None:
    """Refuse what is too old or too far ahead. Raises SignatureError."""
    if not abs(age_seconds) <= tolerance_seconds:
        side = "behind" if age_seconds > 0 else "ahead of"
        raise SignatureError(
            f"{name} is {min(abs(age_seconds), 1e9):.0f} s {side} this server's clock, where "
            f"{tolerance_seconds:.0f} s are allowed: check the clocks, or send it anew"
        )
