"""Grouped appends, and the spool that takes them while Redis does not.

Requests that arrive while one flush is in flight share the next. What Redis does not take, or not
now because too much waits there already, goes to the local spool and counts as accepted; a drain
brings it to Redis in order. While a stream has something in the spool, whatever is new for it
queues behind; only urgent events do not wait for others' backlog. What a process that is gone has
left in its spool is taken over beside that, and what is new for those streams queues behind it too.

An append whose reply did not come may have been carried out, and then what comes out of the spool
is a copy. Such entries say so, in the field ``u``: for how long that has been in doubt (ms). The
worker looks for them in the event log where its marks do not reach back so far.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError, ResponseError

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import UnavailableError, UnconfirmedError
from hookstream.app.ingest.backpressure import Backlog
from hookstream.app.ingest.spool import Spool, Spooled, abandoned
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_redis_down
from hookstream.app.redis.durability import Durability
from hookstream.app.redis.errors import redis_kind
from hookstream.app.redis.line import Line
from hookstream.codecs.envelope import take_out_payload
from hookstream.codecs.errors import CodecError

__all__ = ["Append", "Appender"]

logger = get_logger(__name__)

#: Entries of a flush, and what is needed to have all that came in one request.
MAX_FLUSH = 512
DRAIN_PAGE = 256
#: How often it is looked for folders that processes which are gone have left. One is taken over
#: when two looks in a row find it so: a process that is started again has its own back by then.
ADOPT_SECONDS = 10.0
#: At most one line of log in this time about events that are refused.
REFUSED_LOG_SECONDS = 5.0
#: A kind of refusal by Redis is a line of the log once in this time.
SAID_SECONDS = 60.0
#: After the spool could not be opened it is not tried again within this time.
REOPEN_SECONDS = 1.0
#: How long the drain passes over streams that Redis refuses while there are others.
SIT_OUT_SECONDS = 1.0
#: Streams whose refusals are told of.
MAX_REFUSALS = 16
#: How long it is waited when everything in the spool is of streams that are full.
HELD_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Append:
    """An entry to append to a stream. ``urgent``: its tool has updates of priority critical."""

    key: str
    data: bytes
    urgent: bool = False


class Waiting(Protocol):
    """Who waits for an entry, as a future does."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: None, /) -> None:
        """The entry is kept."""

    def set_exception(self, error: Exception, /) -> None:
        """It is not."""


@dataclass(slots=True)
class Pending:
    """An entry that a request waits for.

    ``request``: which one, where it waits for several. ``sent``: it went to Redis once, whatever
    became of it.
    """

    key: str
    data: bytes
    urgent: bool
    done: Waiting
    request: object = None
    sent: bool = False


@dataclass(slots=True)
class Drain:
    """How far a spool has been brought to Redis.

    ``place``: where the next page begins, with the streams that were passed over up to there.
    ``sits_out``: streams that Redis refuses, and until when they are passed over (monotonic).
    ``made``: id of entries that were appended and not confirmed.
    """

    spool: Spool
    made: dict[Spooled, Any] = field(default_factory=dict)
    place: tuple[Set[str], int] = (frozenset(), -1)
    sits_out: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Leftover:
    """A folder with something in it whose process is gone.

    ``streams``: those with entries there, once this process drains it; ``trouble``: why it cannot.
    """

    streams: Collection[str] = ()
    made: dict[Spooled, Any] = field(default_factory=dict)
    trouble: str = ""


Item = TypeVar("Item", Pending, Spooled)


class Appender(Service):
    """Appends to streams in one pipeline a flush; each caller waits for its own append only.

    A flush starts as soon as the last one has ended, so a lone request waits for nobody, and a
    crowd pays for one round trip together.
    """

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        durability: Durability,
        scripts: Scripts,
        spool_dir: Path,
        spool_max_bytes: int,
        *,
        claim_check_bytes: int,
        backlog: Backlog,
        receives: bool = True,
        **kwargs: object,
    ) -> None:
        """``receives``: what a process before this one has left is its own, from the start on."""
        super().__init__(**kwargs)
        self._redis = redis
        self.backlog = backlog
        #: Streams that have, or may have, an urgent event in the spool.
        self._urgent_behind: set[str] = set()
        self._receives = receives
        self._durability = durability
        self._line = Line.of(redis)
        self._scripts = scripts
        self._claim_check_bytes = claim_check_bytes
        self._pending: list[Pending] = []
        self._work = asyncio.Event()
        self._spooled = asyncio.Event()
        self._spool_dir = spool_dir
        self._spool_max_bytes = spool_max_bytes
        self.spool: Spool | None = None
        self._drain_of_own: Drain | None = None
        #: By the number of its folder.
        self.leftovers: dict[int, Leftover] = {}
        #: Why the spool cannot be opened (a full disk, say), and when that was tried last.
        self.spool_trouble = ""
        self._tried_at = -REOPEN_SECONDS
        #: Streams with something in a spool that cannot be opened: what is new may not overtake.
        self._shut_in: frozenset[str] = frozenset()
        #: Stream → what Redis said when it refused it last.
        self._refusals: dict[str, str] = {}
        #: Kind of refusal → when a line of the log said so.
        self._said_at: dict[str, float] = {}
        self._refused_at = -REFUSED_LOG_SECONDS
        self.drained_per_second = 0.0

    async def append(self, key: str, data: bytes, *, urgent: bool = False) -> None:
        """Append one entry with the field ``d``; returns once Redis, or the spool, has it.

        An ``urgent`` one does not wait behind what is in the spool because a stream is full, unless
        there are urgent ones among it.

        Raises:
            UnavailableError: neither can keep it now.
        """
        await self.append_all([Append(key, data, urgent)])

    def put(self, key: str, data: bytes, urgent: bool, done: Waiting) -> None:
        """As :meth:`append`; ``done`` is told in the end, and raises nothing."""
        self._pending.append(Pending(key, data, urgent, done))
        self._work.set()

    async def append_all(self, entries: Sequence[Append]) -> None:
        """Append several, in their order; returns once all of them are kept.

        They go in one trip: a command a stream, which has all of its entries or none, and what does
        not get there goes to the spool in one write. A large one, which goes alone, ends a trip.

        Raises:
            UnavailableError: not all of them can be kept now; those of some streams may be.
        """
        loop = asyncio.get_running_loop()
        request = object() if len(entries) > 1 else None
        waiting = [loop.create_future() for _ in entries]
        self._pending += (
            Pending(entry.key, entry.data, entry.urgent, done, request)
            for entry, done in zip(entries, waiting, strict=True)
        )
        self._work.set()
        if request is None:
            for done in waiting:
                await done
            return
        # all have an answer before anybody is told: what is under way then would be a surprise
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def on_start(self) -> None:
        """See whether an earlier process has left something in the spool."""
        if self._receives and self._spool_dir.exists():
            with suppress(UnavailableError):  # a full disk, say: it is tried again
                self._own_spool()
            self._spooled.set()

    async def on_stop(self) -> None:
        """Close the spool; what is in it stays for the next process."""
        if self._line is not None:
            self._line.close()
        if self.spool is not None:
            self.spool.close()

    def writable(self) -> bool:
        """Whether the spool could take an event now; asks by opening it where it is not open."""
        try:
            spool = self._own_spool()
        except UnavailableError:
            return False
        return spool.bytes < spool.max_bytes

    @property
    def has_spooled(self) -> bool:
        """Whether events wait in a spool of this machine, or may."""
        own = self.spool is not None and self.spool.entries
        return bool(own or self.leftovers or self.spool_trouble)

    def _own_spool(self) -> Spool:
        if self.spool is None:
            now = time.monotonic()
            if now - self._tried_at < REOPEN_SECONDS:
                raise UnavailableError(self.spool_trouble)
            spool = Spool(self._spool_dir, self._spool_max_bytes)
            try:
                spool.open()
            except UnavailableError as error:
                self._not_opened(spool, str(error))
                raise
            self.spool_trouble, self._tried_at, self._shut_in = "", -REOPEN_SECONDS, frozenset()
            # whose events an earlier process has left is not known
            self._urgent_behind.update(spool.backlog)
            self.spool, self._drain_of_own = spool, Drain(spool)
        return self.spool

    def _not_opened(self, spool: Spool, trouble: str) -> None:
        if not self.spool_trouble:
            found = spool.peek()
            self._shut_in = frozenset(found or ())
            logger.error(
                "%s; what is in it waits, and so does what is new for %s streams of it",
                trouble,
                "an unknown number of" if found is None else len(found),
            )
        self.spool_trouble, self._tried_at = trouble, time.monotonic()

    def refusals(self) -> dict[str, str]:
        """What Redis says of streams that it does not take anything for, for ``/health``."""
        return dict(self._refusals)

    def _heard(self, key: str, reply: Any) -> None:
        if not isinstance(reply, RedisError):
            self._refusals.pop(key, None)
        elif key in self._refusals or len(self._refusals) < MAX_REFUSALS:
            kind = redis_kind(reply)
            now = time.monotonic()
            said_at = self._said_at.get(kind, now - SAID_SECONDS)
            if isinstance(reply, ResponseError) and now - said_at >= SAID_SECONDS:
                self._said_at[kind] = now
                logger.error("events wait in the spool: %s refuses them: %s", key, reply)
            self._refusals[key] = kind

    @tasks.loop
    async def _flush_forever(self) -> None:
        while not self.should_stop:
            # this task is cancelled when its service stops
            await self._work.wait()
            self._work.clear()
            while self._pending:
                most = _whole_requests(self._pending, MAX_FLUSH)
                batch, self._pending = self._pending[:most], self._pending[most:]
                try:
                    await self._flush(batch)
                except BaseException:
                    # nobody waits for an answer that never comes
                    for item in batch:
                        _settle(item.done, _failed())
                    raise

    async def _flush(self, batch: list[Pending]) -> None:
        """Append what goes in one command a stream; what is behind that begins the next flush.

        Were one command of a stream refused and a later one of the same trip taken, what is in
        the second would come first.
        """
        metrics.APPEND_BATCH_REQUESTS.observe(len(batch))
        late: list[Pending] = []
        direct: list[Pending] = []
        for item in batch:
            (late if self._has_to_wait(item) else direct).append(item)
        calls, behind = self._first_of_each(direct)
        replies = await self._send({key: [i.data for i in items] for key, items in calls.items()})
        for (key, items), reply in zip(calls.items(), replies, strict=True):
            self._heard(key, reply)
            for item in items:
                item.sent = True
            if not isinstance(reply, Exception):
                self.backlog.added(key, len(items))
                for item in items:
                    _settle(item.done, None)
            elif _not_now(reply):
                # if they were taken, the copies are recognised by their ids, and come marked
                late += items
            else:
                for item in items:
                    _settle(item.done, reply)
        if behind:
            self._pending = behind + self._pending
        if late:
            self._keep_here(late)

    def _has_to_wait(self, item: Pending) -> bool:
        """Whether an entry goes to the spool, behind what is there or because its stream is full.

        Of one tool's events all are urgent or none, so an urgent one overtakes other tools' only.
        """
        if item.key in self._shut_in or (self.leftovers and item.key in self._left_behind()):
            return True
        in_spool = self.spool is not None and item.key in self.spool.backlog
        if in_spool and (not item.urgent or item.key in self._urgent_behind):
            return True
        return self.backlog.holds(item.key, urgent=item.urgent)

    async def _send(self, streams: Mapping[str, Sequence[bytes]]) -> list[Any]:
        """Append to each stream, all of its entries or none; a reply or an error for each stream.

        A command and its reply cost more than the entries in it.
        """
        if not streams:
            return []
        try:
            calls = [await self._call(key, values) for key, values in streams.items()]
            if self._line is not None and not self._durability.confirms:
                return await self._line.run([command for _, command in calls])
            return await self._durability.run(calls)
        except Exception as error:  # noqa: BLE001 every waiting request must hear of it
            return [error] * len(streams)

    async def _call(
        self, key: str, values: Sequence[bytes], *more: object
    ) -> tuple[str, Sequence[Any]]:
        """The command that appends entries to a stream; ``more``: other fields of one alone.

        The payload of a large one, which comes alone, goes to a blob beside the stream, in the same
        script. That is decided here and not before: the spool keeps such an entry whole.
        """
        if len(values) > 1:
            # scripts by their text, not their SHA: next to payloads it is nothing, and never
            # unknown
            return key, ("EVAL", await self._scripts.source("append"), 1, key, *values)
        [data] = values
        if len(data) > self._claim_check_bytes:
            try:
                entry, blob, payload = take_out_payload(data, lambda name: keys.blob(key, name))
            except CodecError:
                blob = ""
            if blob:
                script = await self._scripts.source("append_blob")
                metrics.CLAIM_CHECKS.inc()
                return key, ("EVAL", script, 2, key, blob, entry, payload, *more)
        return key, ("XADD", key, "*", "d", data, *more)

    def _keep_here(self, items: list[Pending]) -> None:
        try:
            doubted = {at for at, item in enumerate(items) if item.sent}
            self._own_spool().add([(item.key, item.data) for item in items], doubted)
        except UnavailableError as error:
            metrics.SPOOL_REFUSED.inc(len(items))
            now = time.monotonic()
            if now - self._refused_at > REFUSED_LOG_SECONDS:
                self._refused_at = now
                logger.error("events are refused (503): %s", error)
            # senders are strangers: where the spool lies and why it fails is for the log alone
            refusal = UnavailableError("events cannot be kept here at the moment: send it again")
            for item in items:
                _settle(item.done, refusal)
            return
        self._urgent_behind.update(item.key for item in items if item.urgent)
        metrics.SPOOL_APPENDED.inc(len(items))
        self._measure()
        self._spooled.set()
        for item in items:
            _settle(item.done, None)

    @tasks.loop
    async def _drain_forever(self) -> None:
        failures = 0
        while not self.should_stop:
            await self.wait_first(self._spooled.wait())
            if self.should_stop:
                continue
            try:
                spool = self._own_spool()
                assert self._drain_of_own is not None
                held = self.backlog.held(spool.backlog) | self._left_behind()
                if spool.backlog and held.issuperset(spool.backlog):
                    await self.sleep(HELD_SECONDS)
                    continue
                moved = await self._drain(self._drain_of_own)
                if not spool.entries:
                    self._spooled.clear()
                failures = 0 if moved or not spool.entries else failures + 1
            except (UnavailableError, *REDIS_ERRORS) as error:
                failures += 1
                if failures % 50 == 1:
                    logger.warning("the spool waits: %s", error)
            if failures:
                # shorter than streams sit out, so that others have their turn meanwhile
                await self.sleep(min(SIT_OUT_SECONDS / 2, backoff_seconds(failures)))

    async def _drain(self, drain: Drain) -> int:
        """Bring one page to Redis; returns how many went."""
        spool, made = drain.spool, drain.made
        skip = self._passed_over(drain)
        passed, after = drain.place
        if passed != skip:
            after = -1  # what was passed over may go now, and comes first
        drain.place = (skip, -1)
        page, after = spool.scan(DRAIN_PAGE, after, skip)
        if not page:
            drain.place = (skip, after)
            return int(after >= 0)
        begun = time.monotonic()
        replies = await self._send_again(spool, page, made)
        stopped: set[str] = set()
        moved: list[Spooled] = []
        for entry in page:
            if entry not in replies:
                # behind what was sent of its stream: its turn comes with the next page
                stopped.add(entry.key)
                continue
            reply = replies[entry]
            self._heard(entry.key, reply)
            if isinstance(reply, UnconfirmedError) and entry not in made:
                made[entry] = reply.reply
            elif not isinstance(reply, Exception) and not reply:
                # a failover has taken back what was never confirmed: append it anew
                made.pop(entry, None)
                stopped.add(entry.key)
            if entry.key in stopped or isinstance(reply, Exception):
                stopped.add(entry.key)
            else:
                moved.append(entry)
                made.pop(entry, None)
        if moved:
            spool.remove(moved)
            metrics.SPOOL_DRAINED.inc(len(moved))
            self.drained_per_second = len(moved) / max(1e-6, time.monotonic() - begun)
            for key, entries in Counter(entry.key for entry in moved).items():
                self.backlog.added(key, entries)
            if spool is self.spool:
                self._urgent_behind &= spool.backlog.keys()
        if not stopped:
            drain.place = (skip, after)
        elif not moved:
            until = time.monotonic() + SIT_OUT_SECONDS
            refused = (entry.key for entry, said in replies.items() if _refused(said))
            drain.sits_out.update(dict.fromkeys(refused, until))
        self._measure()
        return len(moved)

    def _passed_over(self, drain: Drain) -> Set[str]:
        """Streams whose entries stay where they are for now: full ones, those with older entries
        elsewhere, and after a page of nothing else those that Redis refuses, so that what is behind
        them is not held up.
        """
        backlog, now = drain.spool.backlog, time.monotonic()
        skip = self.backlog.held(backlog)
        if drain.spool is self.spool:
            skip |= self._left_behind()
        refused = {key for key, until in drain.sits_out.items() if now < until}
        if not (skip | refused).issuperset(backlog):
            skip |= refused
        return skip

    async def _send_again(
        self, spool: Spool, page: Sequence[Spooled], made: dict[Spooled, Any]
    ) -> dict[Spooled, Any]:
        """Append the first entries of each stream of a page, in one command; replies to those.

        What was appended before and not confirmed is only asked for: appending it again and again
        while there is no replica would fill the stream with copies.
        """
        calls: list[tuple[str, Sequence[Any]]] = []
        places: list[tuple[list[Spooled], int]] = []
        first, _ = self._first_of_each(page, made)
        for key, entries in first.items():
            if entries[0] in made:
                for entry in entries:
                    # a write of its own, for the confirmation covers writes only
                    calls.append((key, ("SET", keys.barrier_of(key), "")))
                    calls.append((key, ("XRANGE", key, made[entry], made[entry])))
                    places.append(([entry], len(calls) - 1))
                continue
            doubts = [_doubt(entry) if spool.in_doubt(entry) else () for entry in entries]
            if len(entries) == 1:
                calls.append(await self._call(key, [entries[0].data], *doubts[0]))
            else:
                pairs = [
                    part
                    for entry, doubt in zip(entries, doubts, strict=True)
                    for part in (entry.data, doubt[1] if doubt else "")
                ]
                script = await self._scripts.source("append_again")
                calls.append((key, ("EVAL", script, 1, key, *pairs)))
            places.append((entries, len(calls) - 1))
        spool.doubt([entry for entries, _ in places for entry in entries])
        try:
            replies = await self._durability.run(calls)
        except Exception as error:  # noqa: BLE001 whatever it is, the page stays in the spool
            replies = [error] * len(calls)
        return {
            entry: reply
            for entries, place in places
            for entry, reply in zip(entries, _each(replies[place], len(entries)), strict=True)
        }

    def _first_of_each(
        self, items: Sequence[Item], made: Collection[Item] = ()
    ) -> tuple[dict[str, list[Item]], list[Item]]:
        """By stream, what can go in one command, and what is behind that.

        A large item goes alone, others together, those of ``made`` and the others apart.
        """
        first: dict[str, list[Item]] = {}
        behind: list[Item] = []
        whole: set[str] = set()
        for item in items:
            mine = first.setdefault(item.key, [])
            large = len(item.data) > self._claim_check_bytes
            if item.key in whole or (mine and (large or (mine[0] in made) != (item in made))):
                whole.add(item.key)
                behind.append(item)
                continue
            mine.append(item)
            if large:
                whole.add(item.key)
        return first, behind

    def _left_behind(self) -> set[str]:
        """Streams with entries in a folder that this process drains: what is new queues behind."""
        return set().union(*(leftover.streams for leftover in self.leftovers.values()))

    @tasks.loop
    async def _adopt_forever(self) -> None:
        before: set[int] = set()
        while not self.should_stop:
            found = abandoned(self._spool_dir)
            self._note_leftovers(found)
            # while our own folder cannot be opened it is among them
            if found & before and not self.spool_trouble and await self._redis_answers():
                for slot in sorted(found & before):
                    await self._adopt(slot)
            before = found
            await self.sleep(ADOPT_SECONDS)

    def _note_leftovers(self, found: set[int]) -> None:
        for slot in self.leftovers.keys() - found:
            self._forget(slot)
        for slot in found - self.leftovers.keys():
            self.leftovers[slot] = Leftover()
        metrics.SPOOL_LEFTOVERS.set(len(self.leftovers))

    def _forget(self, slot: int) -> None:
        """It is drained, or another process has it: nothing here waits for it any more."""
        for key in self.leftovers.pop(slot).streams:
            self._refusals.pop(key, None)
        metrics.SPOOL_LEFTOVERS.set(len(self.leftovers))

    async def _redis_answers(self) -> bool:
        """Whether it is worth while to take a folder, which its own process may want back."""
        try:
            await self._redis.exists(keys.META)
        except REDIS_ERRORS:
            return False
        return True

    async def _adopt(self, slot: int) -> None:
        """Drain what a process that is gone has left, for as long as something moves.

        Then it is let go: its process may be started again. What is new for its streams waits on,
        unless it cannot be drained for a reason of its own.
        """
        spool, leftover = Spool(self._spool_dir, self._spool_max_bytes), self.leftovers[slot]
        try:
            if await asyncio.to_thread(spool.open_slot, slot):
                if spool.entries and not leftover.streams:
                    logger.warning("takes over %d entries of %s", spool.entries, spool.path)
                leftover.streams = spool.backlog
                await self._drain_while_it_moves(Drain(spool, leftover.made))
                leftover.streams, leftover.trouble = tuple(spool.backlog), ""
            if not spool.entries:
                self._forget(slot)
        except (UnavailableError, OSError, *REDIS_ERRORS) as error:
            if leftover.trouble != str(error):
                logger.error("%s: what a process that is gone has left there waits", error)
            leftover.streams, leftover.trouble = (), str(error)
        finally:
            spool.close()

    async def _drain_while_it_moves(self, drain: Drain) -> None:
        still = 0
        # each page of nothing but refused entries makes at least one stream sit out
        while drain.spool.entries and still <= len(drain.spool.backlog) and not self.should_stop:
            before = dict(drain.sits_out)
            moved = await self._drain(drain)
            if not moved and drain.sits_out == before:
                return
            still = 0 if moved else still + 1

    def _measure(self) -> None:
        if self.spool is None:
            return
        metrics.SPOOL_ENTRIES.set(self.spool.entries)
        metrics.SPOOL_BYTES.set(self.spool.bytes)
        metrics.SPOOL_OLDEST_SECONDS.set(self.oldest_seconds())

    def oldest_seconds(self) -> float:
        """Age of the oldest entry in the spool; 0 when it is empty."""
        if self.spool is None or not self.spool.entries:
            return 0.0
        try:
            page = self.spool.page(1)
        except UnavailableError:
            return 0.0  # whoever drains it says so
        return max(0.0, time.time() - page[0].at_ms / 1000) if page else 0.0


def _whole_requests(pending: Sequence[Pending], most: int) -> int:
    """``most``, or what more it takes to have all of the last request."""
    end = most
    while end < len(pending):
        request = pending[end].request
        if request is None or request is not pending[end - 1].request:
            break
        end += 1
    return end


def _settle(done: Waiting, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _doubt(entry: Spooled) -> tuple[str, int]:
    """The field of an entry that may have been appended before it came to the spool, or since."""
    return "u", max(0, time.time_ns() // 1_000_000 - entry.at_ms)


def _each(reply: Any, count: int) -> list[Any]:
    """The reply to a command that appends ``count`` entries, for each of them."""
    if isinstance(reply, UnconfirmedError) and count > 1:
        return [UnconfirmedError(str(reply), one) for one in _each(reply.reply, count)]
    if isinstance(reply, Exception) or count == 1:
        return [reply] * count
    ids: list[Any] = reply
    return ids


def _refused(reply: Any) -> bool:
    """Whether the server answered, and did not take it: it may take others."""
    return isinstance(reply, ResponseError)


def _failed() -> UnavailableError:
    return UnavailableError("the event could not be kept: send it again")


def _not_now(error: Exception) -> bool:
    return is_redis_down(error) or isinstance(error, (UnavailableError, ResponseError))
