"""What a client of a feed is sent next: updates, or one digest for many, and how numbers go on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from hookstream.app.feeds.digests import MAX_DIGESTED, digest_budget, fit_digest
from hookstream.app.feeds.feed import Feeds, FeedUpdate
from hookstream.app.feeds.generations import Generations
from hookstream.app.feeds.resets import Resets, unbroken
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache

__all__ = ["FeedFrames", "FramePage", "frame_text"]


@dataclass(frozen=True, slots=True)
class FramePage:
    """What is sent next: frames ("": none) with the number that each reaches; is there more?"""

    frames: list[tuple[int, str]]
    more: bool


class FeedFrames:
    """Reads one context's feed for one client, from wherever that stands."""

    def __init__(
        self,
        who: tuple[str, str],
        *,
        settings: Settings,
        catalog: CatalogCache,
        feeds: Feeds,
        resets: Resets,
        fold: int | None,
        generation: int | None,
        key: bytes = b"",
    ) -> None:
        """``who``: tenant and context; ``key``: whose client it is, for turns to fold.

        ``fold``: how many waiting updates come one by one; more of them are one frame.
        ``generation``: that of the number where it goes on; 0: it has none yet; None: it does not
        know of generations, and gets no ``hello``.
        """
        self._who = who
        self._key = key
        self._catalog = catalog
        self._feeds = feeds
        self._resets = resets
        self._page_size = settings.feed_read_max_updates
        self._fold = fold
        self._hello = generation is not None
        self._generation = generation or 0
        #: None until it is known where the client stands.
        self._generations: Generations | None = None

    def look_again(self) -> None:
        """Find out anew where the client stands: its feed has lost data."""
        self._generations = None

    @asynccontextmanager
    async def room_to_fold(self, after: int) -> AsyncIterator[None]:
        """A turn to fold, where :meth:`next` will: wait for it before there is one to read."""
        if not self._fold or await self._feeds.last_seq(*self._who) - after <= self._fold:
            yield
            return
        async with self._feeds.digesting.turn(self._key):
            yield

    async def next(self, after: int) -> FramePage:
        """What comes past ``after``."""
        if self._generations is None:
            return await self._stand(after)
        if not self._generations.begun:
            # its first owner, or the first one of this release, is still to come
            self._generations = (await self._feeds.look(*self._who)).generations
        generations = self._generations
        into = generations.crossing(after)
        before = into.start if into else None
        if self._fold and (digest := await self._digest(after, self._fold, before)):
            return FramePage([digest], more=True)
        updates = await self._feeds.read(*self._who, after, before=before)
        if updates and updates[0].seq != after + 1:
            # numbers have no gaps: a generation may have begun
            self._generations = (await self._feeds.look(*self._who)).generations
            if self._generations != generations:
                return FramePage([], more=True)
            return await self._skip(after, updates[0].seq - 1, generations)
        read, updates = len(updates), unbroken(updates)
        if not updates and into and not await self._feeds.holds(*self._who, after, into.start):
            page = await self._skip(after, into.start - 1, generations)
            self._generation = into.generation
            return page
        # a page that is not full was all there was: what came since has set the wake-up
        more = bool(into and updates) or read >= self._page_size or read > len(updates)
        frames = [(one.seq, one.frame(generations.at(one.seq - 1))) for one in updates]
        return FramePage(frames, more)

    async def _skip(self, after: int, to: int, generations: Generations) -> FramePage:
        """Say that the updates up to ``to`` are gone, where there is anybody who missed them."""
        gap = await self._resets.skip(self._who, after, to, generations, self._generation)
        frames = []
        if gap.truncated:
            frames.append((gap.truncated.to, frame_text(gap.truncated.out())))
        if gap.reset or not frames or frames[-1][0] < to:
            frames.append((to, frame_text(gap.reset.out()) if gap.reset else ""))
        return FramePage(frames, more=True)

    async def _stand(self, after: int) -> FramePage:
        """Find out where the client stands, and say so."""
        standing = await self._resets.stand(self._who, after, self._generation)
        if standing is None:
            return FramePage([], more=False)
        self._generations = standing.generations
        frames = []
        if self._hello:
            self._hello = False
            hello = {
                "type": "hello",
                "context_id": self._who[1],
                "generation": standing.generations.current,
                "seq": standing.last,
                "after": standing.after,
            }
            frames.append((after, frame_text(hello)))
        if standing.reset:
            self._generation = standing.generations.current
            frames.append((standing.after, frame_text(standing.reset.out())))
        return FramePage(frames, more=True)

    async def _first(self, after: int) -> list[FeedUpdate]:
        return await self._feeds.read(*self._who, after, 1)

    async def _digest(self, after: int, fold: int, before: int | None) -> tuple[int, str] | None:
        """One frame for all that waits, and the number it reaches; None for ``fold`` or fewer.

        ``before``: where the next generation begins; what is told of that comes in between.
        """
        if await self._feeds.last_seq(*self._who) - after <= fold:
            return None
        waiting = await self._feeds.newest(*self._who, after, MAX_DIGESTED, before=before)
        if waiting and waiting[0].seq > after + 1:
            oldest = waiting if len(waiting) < MAX_DIGESTED else await self._first(after)
            if oldest and oldest[0].seq > after + 1:
                # some are gone: that is told first
                return None
        # behind a place where numbers begin anew there may be fewer than they say
        if not waiting or waiting[-1].seq - max(after, waiting[0].seq - 1) <= fold:
            return None
        context = self._catalog.current.contexts.get(self._who)
        budget = digest_budget(context.token_budget if context else None)
        values = await self._feeds.expand(*self._who, waiting)
        if not values:
            # daily summaries only: each is a digest already
            return None
        digest = await asyncio.to_thread(fit_digest, values, budget)
        frame = {
            "type": "digest",
            "seq": waiting[-1].seq,
            "from_seq": after + 1,
            "generation": (self._generations or Generations()).at(waiting[-1].seq - 1),
            "context_id": self._who[1],
            "updates": waiting[-1].seq - after,
            "summary": digest.text,
            "tokens": digest.tokens,
            "untrusted": ["summary"],
        }
        return waiting[-1].seq, frame_text(frame)


def frame_text(frame: Mapping[str, Any]) -> str:
    """A frame as it is sent."""
    return orjson.dumps(frame).decode()
