"""What the tests of providers share."""

from collections.abc import Iterator
from functools import cache

import pytest

from hookstream.app.providers.signatures import ecdsa, pinned
from hookstream.app.providers.signatures.public_keys import private_key


@pytest.fixture(scope="package", autouse=True)
def senders_keys_are_read_once() -> Iterator[None]:
    """To read a private key of RSA is to test its primes; hundreds are read, and they are few."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (ecdsa, pinned):
            patch.setattr(module, "private_key", cache(private_key))
        yield
