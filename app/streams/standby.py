"""Renews a worker's leases while its event loop stands still, for as long as that may last.

A stage that computes for longer than a lease lasts would lose its partitions, and the next worker
would compute the same. One that never ends must lose them. So a thread renews them beside the loop,
with the fencing tokens that the loop had last, and stops at a bound: then they lapse.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.stalls import LoopWatch

__all__ = ["LeaseStandby"]

logger = get_logger(__name__)

RENEW_SECONDS = 1.0
STOP_SECONDS = 5.0


class LeaseStandby:
    """Does nothing as long as the event loop turns."""

    def __init__(
        self,
        connect: Callable[[], Any],
        watch: LoopWatch,
        *,
        lease_seconds: float,
        most_seconds: float,
    ) -> None:
        """``connect`` makes a client: the loop's own is of no use while it stands still.

        From a third of ``lease_seconds`` on leases are renewed here, up to ``most_seconds``.
        """
        self._connect = connect
        self._watch = watch
        self._third = lease_seconds / 3
        self._most_seconds = most_seconds
        self._interval = min(self._third, RENEW_SECONDS)
        #: Partition → arguments of ``renew``; and those of ``heartbeat``.
        self._leases: dict[int, Sequence[Any]] = {}
        self._sign: Sequence[Any] = ()
        #: Held while leases are being renewed.
        self._renewing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-standby", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def stop(self) -> None:
        """End; when this returns nothing is renewed any more."""
        self._stopped.set()
        self._leases, self._sign = {}, ()
        await self._settled()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def publish(self, leases: Mapping[int, Sequence[Any]]) -> None:
        """What is this worker's now: partition → arguments of ``renew``."""
        self._leases = dict(leases)

    def publish_sign(self, arguments: Sequence[Any]) -> None:
        """How this worker says that it lives: arguments of ``heartbeat``."""
        self._sign = arguments

    async def withdraw(self, partition: int) -> None:
        """A lease that is given back next: when this returns it is not renewed here any more."""
        self._leases.pop(partition, None)
        await self._settled()

    async def _settled(self) -> None:
        # what is being renewed was copied before; what comes next is without it
        if self._renewing.locked():
            await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        with self._renewing:
            pass

    def _is_due(self) -> bool:
        return self._third < self._watch.late_seconds() <= self._most_seconds

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            if not self._is_due():
                continue
            try:
                asyncio.run(self._hold())
            except Exception as error:  # noqa: BLE001 the next time may go well
                logger.warning("leases cannot be renewed beside the event loop: %s", error)

    async def _hold(self) -> None:
        """Renew while the loop stands still, up to the bound; in a loop of this thread's own."""
        logger.warning("the event loop stands still: its leases are renewed beside it")
        redis = self._connect()
        try:
            scripts = Scripts(redis)
            while self._is_due() and not self._stopped.is_set():
                await self._renew(scripts)
                await asyncio.sleep(self._interval)
        finally:
            await redis.aclose()
        if self._watch.late_seconds() > self._most_seconds:
            logger.error(
                "the event loop has stood still for longer than HOOKSTREAM_STALL_LEASE_SECONDS "
                "(%g s): its leases are not renewed any more, other workers take over",
                self._most_seconds,
            )

    async def _renew(self, scripts: Scripts) -> None:
        with self._renewing:
            if not self._is_due():
                return  # the loop does it again
            calls = [
                scripts.call("renew", [keys.lease(number)], arguments)
                for number, arguments in list(self._leases.items())
            ]
            if sign := self._sign:
                calls.append(scripts.call("heartbeat", keys.OF_WORKERS, sign))
            replies = await asyncio.gather(*calls, return_exceptions=True)
        metrics.STALLED_RENEWALS.inc(sum(reply == 1 for reply in replies))
        for error in replies:
            if isinstance(error, BaseException) and not isinstance(error, REDIS_ERRORS):
                raise error
