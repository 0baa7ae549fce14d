"""moto's queues by dictionaries: its lists cost a second a request once a thousand messages wait.

What is told apart from moto's own: a group of a FIFO queue is one's until all of it that he has is
deleted or visible again, whoever asks at the same time; a deduplication id is known for five
minutes also once its message is deleted; nothing is given to a connection that is closed by then;
and a standard queue may give a message again (``twice``), also one that was deleted. So does SQS.
"""

import copy
import heapq
import random
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Held", "install"]

#: For how long a FIFO queue knows what was sent (s).
KNOWN_SECONDS = 300.0
#: How much later a message comes again that is given twice, at most (s).
AGAIN_SECONDS = 3.0
#: How old a queue's attributes may be that are shown (s).
ATTRIBUTES_SECONDS = 0.5


@dataclass(slots=True)
class Group:
    """Messages that are given in order: of a FIFO queue a group, else a single one."""

    waiting: dict[str, Any] = field(default_factory=dict)
    hidden: dict[str, Any] = field(default_factory=dict)


class Held:
    """What a queue holds. All methods may be called by any thread."""

    def __init__(self, *, fifo: bool, twice: float, most_hidden: float, rng: random.Random) -> None:
        """``twice``: the share of messages that a standard queue gives again.

        ``most_hidden``: the longest that a message is hidden (s), whatever is asked for.
        """
        self.fifo, self.twice, self.most_hidden, self.rng = fifo, twice, most_hidden, rng
        self.given_twice = 0
        self.groups: dict[str, Group] = {}
        #: Groups that something can be taken of now, those first that have waited longest.
        self.ready: dict[str, None] = {}
        self.handles: dict[str, tuple[str, str]] = {}
        self.known: dict[str, float] = {}
        #: (when, number, group, message's id): it is visible again; (…, a message): it comes again.
        self.later: list[tuple[float, int, str, Any]] = []
        self.numbers = 0
        self.changed = threading.Condition()

    def add(self, message: Any) -> None:
        """Put a message at the end of its group, unless its deduplication id is known."""
        with self.changed:
            now = time.time()
            if self.fifo and message.deduplication_id:
                if self.known.get(message.deduplication_id, 0.0) > now:
                    return
                self.known[message.deduplication_id] = now + KNOWN_SECONDS
            self._put(str(message.group_id) if self.fifo else message.id, message)
            self.changed.notify()

    def _put(self, name: str, message: Any) -> None:
        group = self.groups.setdefault(name, Group())
        group.waiting[message.id] = message
        if not group.hidden:
            self.ready[name] = None

    def receive(self, count: int, wait_seconds: float, hidden_seconds: int) -> list[Any]:
        """Messages, as soon as there are some; none after the wait, or to who has gone."""
        deadline = time.time() + wait_seconds
        hidden_seconds = min(hidden_seconds, int(self.most_hidden))
        with self.changed:
            while True:
                now = time.time()
                self._bring_back(now)
                if _has_gone():
                    return []
                if found := self._take(count, hidden_seconds, now):
                    return found
                if now >= deadline:
                    return []
                self.changed.wait(min(0.2, deadline - now))

    def _take(self, count: int, hidden_seconds: int, now: float) -> list[Any]:
        found: list[Any] = []
        while self.ready and len(found) < count:
            name = next(iter(self.ready))
            del self.ready[name]
            group = self.groups[name]
            while group.waiting and len(found) < count:
                message = group.waiting.pop(next(iter(group.waiting)))
                group.hidden[message.id] = message
                message.mark_received(visibility_timeout=hidden_seconds)
                self.handles[message.receipt_handle] = name, message.id
                self._remember(now + hidden_seconds, name, message.id)
                found.append(copy.copy(message))
                if not self.fifo and self.rng.random() < self.twice:
                    self._remember(now + self.rng.random() * AGAIN_SECONDS, "", copy.copy(message))
        return found

    def _remember(self, at: float, name: str, what: Any) -> None:
        self.numbers += 1
        heapq.heappush(self.later, (at, self.numbers, name, what))

    def _bring_back(self, now: float) -> None:
        while self.later and self.later[0][0] <= now:
            _, number, name, what = heapq.heappop(self.later)
            if not name:
                self.given_twice += 1
                self._put(f"{what.id} {number}", what)
                continue
            group = self.groups.get(name)
            message = group.hidden.get(what) if group is not None else None
            if group is None or message is None:
                continue
            if message.visible_at > now * 1000:
                # it has been hidden for longer since
                self._remember(message.visible_at / 1000, name, what)
            else:
                del group.hidden[what]
                # it is older than what waits
                group.waiting = {message.id: message, **group.waiting}
                self._settle(name, group)

    def _settle(self, name: str, group: Group) -> None:
        if group.hidden:
            return
        # several may have come back, in any order
        group.waiting = dict(sorted(group.waiting.items(), key=lambda item: item[1].order))
        if group.waiting:
            self.ready[name] = None
            self.changed.notify()
        else:
            self.ready.pop(name, None)
            self.groups.pop(name, None)

    def delete(self, handle: str) -> None:
        """Delete a message by any handle that it was given with."""
        with self.changed:
            name, message_id = self.handles.pop(handle, ("", ""))
            group = self.groups.get(name)
            if group is not None:
                group.hidden.pop(message_id, None)
                group.waiting.pop(message_id, None)
                self._settle(name, group)

    def hide(self, handle: str, seconds: int) -> None:
        """Hide a message for so long from now on; one that is visible stays so."""
        seconds = min(seconds, int(self.most_hidden))
        with self.changed:
            name, message_id = self.handles.get(handle, ("", ""))
            group = self.groups.get(name)
            message = group.hidden.get(message_id) if group is not None else None
            if message is not None:
                message.change_visibility(seconds)
                self._remember(time.time() + seconds, name, message_id)

    def counts(self) -> tuple[int, int]:
        """How many wait, how many are hidden."""
        with self.changed:
            groups = self.groups.values()
            waiting = sum(len(group.waiting) for group in groups)
            return waiting, sum(len(group.hidden) for group in groups)


def _has_gone() -> bool:
    """Whether the connection of the request of this thread is closed."""
    from flask import has_request_context, request

    connection = request.environ.get("werkzeug.socket") if has_request_context() else None
    if connection is None:
        return False
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except BlockingIOError:
        return False
    except OSError:
        return True


def install(rng: random.Random, *, twice: float = 0.0, most_hidden: float = 43200.0) -> list[Held]:
    """Give moto's queues of this process these; what they hold, as queues are made."""
    from moto.sqs import models

    all_held: list[Held] = []
    numbers = iter(range(1 << 62))

    def held(queue: Any) -> Held:
        if "_held" not in queue.__dict__:
            queue._held = Held(
                fifo=bool(queue.fifo_queue), twice=twice, most_hidden=most_hidden, rng=rng
            )
            all_held.append(queue._held)
        made: Held = queue._held
        return made

    def add(queue: Any, message: Any) -> None:
        message.order = next(numbers)
        held(queue).add(message)

    def receive(
        backend: Any, name: str, count: int, wait: int, hidden: int, names: list[str] | None = None
    ) -> list[Any]:
        found = held(backend.get_queue(name)).receive(count, wait, hidden)
        for message in found:
            models._filter_message_attributes(message, names or [])
        return found

    def hide(backend: Any, queue_name: str, receipt_handle: str, visibility_timeout: int) -> None:
        held(backend.get_queue(queue_name)).hide(receipt_handle, visibility_timeout)

    whole = models.Queue.attributes.fget

    def attributes(queue: Any) -> dict[str, Any]:
        # asked for four times a message that is sent; nobody changes them here
        at, found = queue.__dict__.get("_attributes", (-1.0, {}))
        if time.monotonic() - at > ATTRIBUTES_SECONDS:
            found = whole(queue)
            queue._attributes = (time.monotonic(), found)
        return dict(found)

    replaced: dict[tuple[Any, str], Any] = {
        (models.Queue, "attributes"): property(attributes),
        (models.Queue, "add_message"): add,
        (models.Queue, "delete_message"): lambda queue, handle: held(queue).delete(handle),
        (models.SQSBackend, "receive_message"): receive,
        (models.SQSBackend, "change_message_visibility"): hide,
        (models.Queue, "approximate_number_of_messages"): property(lambda q: held(q).counts()[0]),
        (models.Queue, "approximate_number_of_messages_not_visible"): property(
            lambda q: held(q).counts()[1]
        ),
    }
    for (owner, name), new in replaced.items():
        setattr(owner, name, new)
    return all_held
