"""How a process starts and ends: in which order, and what it says where it cannot."""

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import faust
from faust.app.base import BootStrategy
from mode import ServiceT

from hookstream.app.errors import HookstreamError

__all__ = ["HookstreamBoot", "HookstreamWorker"]


class HookstreamWorker(faust.Worker):
    """Faust's worker without its spinner, which would set the log level and write into the log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spinner = None
        self._refusal: HookstreamError | None = None

    async def start(self) -> None:
        """Start; what this process says it cannot start with ends it without a traceback."""
        try:
            await super().start()
        except HookstreamError as error:
            self._refusal = error
            # what Faust takes for an end that was asked for
            raise asyncio.CancelledError from error

    def execute_from_commandline(self) -> NoReturn:
        """Run until the end; a start that was refused is a message and an exit status."""
        try:
            raise super().execute_from_commandline()
        except SystemExit:
            refusal = self._refusal or self.app.services.refusal
            if refusal is None:
                raise
            sys.stderr.write(f"hookstream: {refusal}\n")
            raise SystemExit(refusal.exit_status) from None

    async def _sentinel_task(self) -> None:
        """What Mode runs last: by then all is stopped, and it would wait another second."""
        await asyncio.sleep(0)

    def on_setup_root_logger(self, logger: Any, level: int) -> None:
        """Levels are those of ``HOOKSTREAM_LOG_LEVEL``."""


class HookstreamBoot(BootStrategy):
    """Starts Redis, PostgreSQL and the catalog first; takes partitions last."""

    enable_kafka = False

    def server(self) -> Iterable[ServiceT]:
        """Services of a worker, in the order of their start; they stop the other way round."""
        worker = self.app.worker
        return [
            self.app.services,
            *self.sensors(),
            *self.web_server(),
            *([worker.model] if worker.model else []),
            *self.agents(),
            worker,
            *([self.app.kafka] if self.app.has_topics else []),
        ]

    def producer_only(self) -> Iterable[ServiceT]:
        """Services of a process that only serves HTTP."""
        return [self.app.services, *self.web_server()]
