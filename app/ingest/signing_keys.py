"""The keys that webhooks are verified by and that are their provider's: fetched once, and kept.

Strangers choose which key a webhook names. So nothing is asked twice at once, what is not there is
remembered for a while, and whoever asks for ever new ones waits. Keys that are known go on counting
while they are fetched anew, and while their host cannot be asked.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hookstream.app import metrics, tasks
from hookstream.app.errors import HookstreamError, SignatureError, UnavailableKeyError
from hookstream.app.ingest.key_fetcher import Fetched
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.public_keys import Keys
from hookstream.app.token_bucket import TokenBuckets

__all__ = ["Fetcher", "SigningKeys"]

#: Keys are fetched anew once they are older, while the old ones count.
FRESH_SECONDS: Final = 3600.0
#: Keys that could not be fetched anew for so long do not count any more.
KEPT_SECONDS: Final = 24 * 3600.0
#: A key that was not there is looked for again after this.
ABSENT_SECONDS: Final = 300.0
#: A set of keys that lacks the one wanted is fetched anew at most so often.
RENEWED_SECONDS: Final = 60.0
#: A host that could not be asked is left alone for so long.
FAILED_SECONDS: Final = 5.0
MAX_KNOWN: Final = 256
#: Of those that are not there; more than are looked for in ``ABSENT_SECONDS``.
MAX_UNKNOWN: Final = 4096
#: How fast new keys may be asked for: by one client of one tool, and in all.
CLIENT_PER_SECOND, CLIENT_BURST = 0.2, 10.0
ALL_PER_SECOND, ALL_BURST = 5.0, 100.0


class Fetcher(Protocol):
    """As :class:`KeyFetcher`."""

    async def fetch(self, url: str, body: bytes = b"") -> Fetched:
        """Raises UnavailableKeyError."""
        ...

    def say(self, what: str) -> None:
        """Write a line of the log, unless there was one just before."""
        ...


@dataclass(slots=True)
class _Known:
    keys: Keys
    fetched_at: float
    #: When it may be fetched anew.
    next_at: float = 0.0


class SigningKeys:
    """The keys that one process knows."""

    def __init__(self, fetcher: Fetcher, now: Callable[[], float] = time.monotonic) -> None:
        self._fetcher = fetcher
        self._now = now
        self._known: OrderedDict[KeySource, _Known] = OrderedDict()
        #: What is not there, or cannot be asked: until when, and what is said.
        self._unknown: OrderedDict[KeySource, tuple[float, type[HookstreamError]]] = OrderedDict()
        self._fetches: dict[KeySource, asyncio.Task[Keys]] = {}
        self._clients = TokenBuckets(CLIENT_PER_SECOND, CLIENT_BURST)
        self._all = TokenBuckets(ALL_PER_SECOND, ALL_BURST)

    async def find(self, source: KeySource, client: Hashable) -> Keys:
        """The keys at ``source``, with the one that it wants; ``client``: who has named it.

        Raises:
            SignatureError: there is no such key.
            UnavailableKeyError: it cannot be fetched now, or this client has named too many.
        """
        known, now = self._known.get(source), self._now()
        if known is not None and now - known.fetched_at <= KEPT_SECONDS:
            if source.key_id in known.keys:
                self._known.move_to_end(source)
                self._renew_old(source, known, now)
                return known.keys
            if now - known.fetched_at < RENEWED_SECONDS:
                # perhaps a new one: but who makes up ids shall not make us ask for each
                raise _refusal(source, SignatureError)
        until, kind = self._unknown.get(source, (0.0, SignatureError))
        if now < until:
            raise _refusal(source, kind)
        if source not in self._fetches and self._is_too_much(client, now):
            raise UnavailableKeyError("too many keys that are not known here have been named")
        keys = await self._fetched(source)
        if source.key_id not in keys:
            raise _refusal(source, SignatureError)
        return keys

    def _is_too_much(self, client: Hashable, now: float) -> bool:
        return bool(self._clients.take(client, now) or self._all.take("", now))

    async def first_of(self, sources: Sequence[KeySource], client: Hashable) -> Keys:
        """The keys at the first of several places that has the one it wants.

        Raises:
            SignatureError: none has it.
            UnavailableKeyError: none that could be asked has it.
        """
        refusal: HookstreamError = SignatureError("the webhook names no key")
        # one whose secret has expired is not asked again before the one that has the key
        for source in sorted(sources, key=lambda source: source not in self._known):
            try:
                return await self.find(source, client)
            except SignatureError as error:
                # one that could not be asked may have it
                refusal = refusal if isinstance(refusal, UnavailableKeyError) else error
            except UnavailableKeyError as error:
                refusal = error
        raise refusal

    def _renew_old(self, source: KeySource, known: _Known, now: float) -> None:
        if now - known.fetched_at > FRESH_SECONDS and now >= known.next_at:
            known.next_at = now + RENEWED_SECONDS
            tasks.spawn("SigningKeys._renew", self._renew(source))

    async def _renew(self, source: KeySource) -> None:
        try:
            await self._fetched(source)
        except (SignatureError, UnavailableKeyError):
            self._fetcher.say(f"{_host(source)}: a key cannot be fetched anew: the old one counts")

    async def _fetched(self, source: KeySource) -> Keys:
        """Fetch, together with all who want the same; one that gives up takes it from nobody."""
        fetch = self._fetches.get(source)
        if fetch is None:
            fetch = tasks.awaited("SigningKeys._fetch", self._fetch(source))
            self._fetches[source] = fetch
            fetch.add_done_callback(lambda done: self._ended(source, done))
        return await asyncio.shield(fetch)

    def _ended(self, source: KeySource, fetch: asyncio.Task[Keys]) -> None:
        del self._fetches[source]
        if not fetch.cancelled():
            fetch.exception()  # those who wait hear it; there may be none any more

    async def _fetch(self, source: KeySource) -> Keys:
        try:
            keys = await self._read(source)
        except (SignatureError, UnavailableKeyError) as error:
            absent = isinstance(error, SignatureError)
            metrics.KEY_FETCHES.labels(result="absent" if absent else "failed").inc()
            seconds = ABSENT_SECONDS if absent else FAILED_SECONDS
            self._unknown[source] = self._now() + seconds, type(error)
            if len(self._unknown) > MAX_UNKNOWN:
                self._unknown.popitem(last=False)
            raise
        metrics.KEY_FETCHES.labels(result="ok").inc()
        self._unknown.pop(source, None)
        self._known[source] = _Known(keys, self._now())
        self._known.move_to_end(source)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return keys

    async def _read(self, source: KeySource) -> Keys:
        """What is there now. Raises SignatureError: nothing; UnavailableKeyError."""
        found = await self._fetcher.fetch(source.url, source.body)
        if found.status == 200:
            try:
                return source.read(found.body)
            except ValueError as error:
                self._fetcher.say(f"{_host(source)}: what it has for a key: {error}")
        elif source.is_absent(found.status, found.body):
            raise _refusal(source, SignatureError)
        else:
            self._fetcher.say(f"{_host(source)} answers {found.status} for a key")
        raise _refusal(source, UnavailableKeyError)


def _refusal(source: KeySource, kind: type[HookstreamError]) -> HookstreamError:
    """What a sender is told: not what the host has said, which is for the log."""
    if kind is SignatureError:
        return SignatureError(f"{_host(source)} has no such key as the webhook names")
    return UnavailableKeyError(f"the key at {_host(source)} cannot be fetched now: send it again")


def _host(source: KeySource) -> str:
    return source.url.split("/")[2]
