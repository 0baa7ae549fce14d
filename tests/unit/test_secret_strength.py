"""Which secrets are refused, and which are called weak."""

import secrets

import pytest

from hookstream.app.errors import BadRequestError
from hookstream.app.providers import PROVIDERS, check_secrets, weak_secrets
from hookstream.app.secret_strength import is_guessable, is_weak


@pytest.mark.parametrize(
    "secret",
    ["a", "abc", "secret", "password", "Passw0rd1", "12345678", "abcdefgh", "aaaaaaaa", "qwerty123",
     "hookstream", "changeme", "admin-admin", "87654321", "ababababab"],
)  # fmt: skip
def test_what_anybody_would_try_is_refused(secret: str) -> None:
    assert is_guessable(secret)
    assert is_weak(secret)
    for name in ("github", "bearer", "generic"):
        with pytest.raises(BadRequestError, match="number 1 can be guessed"):
            check_secrets(PROVIDERS[name], [secret])
        check_secrets(PROVIDERS[name], [secret], known=[secret])


@pytest.mark.parametrize("secret", ["s3cret", "authtoken", "x" * 20, "password password"])
def test_what_is_short_or_simple_is_taken_and_called_weak(secret: str) -> None:
    assert not is_guessable(secret)
    assert weak_secrets("github", [secret, secrets.token_hex(16)]) == 1


def test_random_secrets_are_neither() -> None:
    for made in (secrets.token_hex(16), secrets.token_urlsafe(16), secrets.token_hex(12)):
        assert not is_guessable(made)
        assert not is_weak(made)


def test_of_a_password_the_user_s_name_does_not_count() -> None:
    with pytest.raises(BadRequestError, match="can be guessed"):
        check_secrets(PROVIDERS["basic"], ["a-long-user-name:secret"])


def test_a_tool_without_secrets_has_no_weak_ones() -> None:
    check_secrets(PROVIDERS["none"], ["a"])
    assert weak_secrets("none", ["a"]) == weak_secrets("no-such-provider", ["a"]) == 0
