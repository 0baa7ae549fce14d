"""``app.Table``: what a stage sees of its table.

In a stage (or within ``batch.on(entry)``) it is the part of the batch's partition, with what the
batch has written so far. Elsewhere, in a page or a timer, it is what is committed in all of this
worker's partitions, and cannot be written.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.errors import FencedError, SettingsError, TableUseError, UnsupportedError
from hookstream.app.stage_tables.state import TablesState, time_ms
from hookstream.app.stage_tables.values import (
    Key,
    decode_key,
    decode_value,
    encode_key,
    encode_value,
)
from hookstream.app.stage_tables.window import Seconds, Window, ms_of
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.table_writes import SCOPE, Scope
from hookstream.tables.errors import TableError

__all__ = ["REFUSED", "WORLD", "StageTables", "Table", "WindowSet", "WindowedTable", "World"]

Default = Callable[[], Any] | None

logger = get_logger(__name__)

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
#: So many lists and dictionaries of a table are looked at when the stage has returned.
LOOKS = 50
_SAVED = "what is committed is there when a partition is opened: read it"

#: What Faust's tables have and these have not, and what there is instead.
REFUSED = {
    "on_recover": _SAVED,
    "on_changelog_event": _SAVED,
    "on_window_close": "look at the window before in the stage: .delta(SECONDS)",
    "using_window": "use .tumbling(SECONDS, expires=SECONDS)",
    "relative_to_now": "windows go by the event's time: use .now() to read by the clock",
    "relative_to_stream": "windows go by the event's time: use .current()",
    "relative_to_field": "windows go by the time at which an event was received",
    "as_ansitable": "use .items()",
}


@dataclass(slots=True)
class World:
    """Where tables are, for the code that asks: this worker, or a test."""

    owned: Callable[[], Mapping[int, Partition]]
    now_ms: Callable[[], int]


#: A test's, which comes before the application's.
WORLD: ContextVar[World | None] = ContextVar("hookstream_world", default=None)


@dataclass(slots=True)
class StageTables:
    """The tables that stages have declared, by name."""

    world: World
    declared: dict[str, "Table"] = field(default_factory=dict)
    _places: dict[str, str] = field(default_factory=dict)

    def declare(self, name: str, default: Default, help: str, place: str) -> "Table":
        """The table ``name``; the same one where the same place declares it again.

        Raises:
            SettingsError: another place has the name, or it is no name.
        """
        if not re.fullmatch(_NAME, name):
            raise SettingsError(
                f"a table's name has letters, digits, '.', '_' and '-', up to 64, and begins with "
                f"a letter or a digit: {name!r} does not ({place})"
            )
        known = self._places.setdefault(name, place)
        if known != place:
            raise SettingsError(
                f"two tables are called {name!r}: {known} and {place}. Rename one of them"
            )
        if name not in self.declared:
            self.declared[name] = Table(name, default, help, self.world)
        return self.declared[name]


class _Stored:
    """Bytes by key, wherever the code that asks may see them."""

    def __init__(self, name: str, default: Default, prefix: bytes, world: World) -> None:
        self.name = name
        self.prefix = prefix
        self._default = default
        self._world = world
        #: So many values more are looked at for what a stage changes in them.
        self._looks = LOOKS

    def __getattr__(self, name: str) -> Any:
        if name in REFUSED:
            raise UnsupportedError(
                f"{name} of the table {self.name!r} is not supported here: {REFUSED[name]}"
            )
        raise AttributeError(f"a table has no attribute {name!r}")

    def _value(self, key: bytes, raw: bytes | None, name: object) -> Any:
        """A value for a stage, and a look whether it puts back what it changes in it."""
        value = self._missing(name) if raw is None else decode_value(raw)
        scope = SCOPE.get()
        if self._looks and scope is not None and isinstance(value, (list, dict)):
            self._looks -= 1
            before = decode_value(raw) if raw is not None else deepcopy(value)
            scope.looks.append(lambda: self._look_at(scope, key, name, before, value))
        return value

    def _look_at(self, scope: Scope, key: bytes, name: object, before: Any, value: Any) -> None:
        if value != before and self._looks and not scope.batch.tables.is_written(key, scope.entry):
            self._looks = 0
            logger.warning(
                "a stage has changed the value of %r in the table %r and not put it back: that is "
                "lost. Write table[key] = value",
                name,
                self.name,
            )

    def _read(self, key: bytes) -> bytes | None:
        scope = SCOPE.get()
        if scope is not None:
            self._check(scope)
            written = scope.batch.tables.read(key, scope.entry)
            if written is not None:
                return written or None
            raw: bytes | None = self._committed(
                scope.batch.partition, lambda state: state.values.get(key)
            )
            return raw
        found = [
            (partition.number, value)
            for partition in self._here()
            if (value := self._committed(partition, lambda state: state.values.get(key)))
        ]
        if len(found) > 1:
            raise TableUseError(
                f"several partitions have this key of the table {self.name!r} "
                f"({', '.join(str(number) for number, _ in found)}): its events are spread by the "
                "tool's ordering. Use .each(key), which gives all of its values"
            )
        return found[0][1] if found else None

    def _each(self, key: bytes) -> list[Any]:
        if SCOPE.get() is not None:
            raw = self._read(key)
            return [] if raw is None else [decode_value(raw)]
        found = (self._committed(p, lambda state: state.values.get(key)) for p in self._here())
        return [decode_value(value) for value in found if value]

    def _scan(self, start: bytes, end: bytes) -> Iterator[tuple[Key, Any]]:
        scope = SCOPE.get()
        if scope is None:
            for partition in self._here():
                page = self._committed(partition, lambda state: state.values.scan(start, end))
                yield from self._decoded(page, start)
            return
        self._check(scope)
        page = self._committed(scope.batch.partition, lambda state: state.values.scan(start, end))
        seen = dict(page)
        seen.update(scope.batch.tables.between(start, end, scope.entry))
        yield from self._decoded([(key, seen[key]) for key in sorted(seen) if seen[key]], start)

    def _decoded(self, page: list[tuple[bytes, bytes]], start: bytes) -> Iterator[tuple[Key, Any]]:
        for key, value in page:
            yield decode_key(key[len(start) :]), decode_value(value)

    def _write(self, key: bytes, value: bytes) -> None:
        scope = SCOPE.get()
        if scope is None:
            raise TableUseError(
                f"the table {self.name!r} is written in a stage (@app.stage), for the event that "
                "it is called with; or in @app.batches within `with batch.on(entry):`. Elsewhere "
                "it can be read"
            )
        self._check(scope)
        if not scope.alone:
            raise TableUseError(
                f"a stage with concurrency above 1 cannot write the table {self.name!r}, for its "
                "events run into each other: write it in a stage of its own behind this one"
            )
        if self._takes(self._state(scope.batch.partition), key):
            scope.batch.tables.put(key, value, scope.entry)

    def _takes(self, state: TablesState, key: bytes) -> bool:
        return True

    def _missing(self, key: object) -> Any:
        if self._default is None:
            raise KeyError(key)
        return self._default()

    def _check(self, scope: Scope) -> None:
        if scope.over:
            raise TableUseError(
                f"the stage has returned: what still runs of it cannot use the table {self.name!r}"
            )
        scope.batch.partition.check()

    def _here(self) -> list[Partition]:
        owned = (WORLD.get() or self._world).owned()
        return [partition for _, partition in sorted(owned.items())]

    def _now_ms(self) -> int:
        return (WORLD.get() or self._world).now_ms()

    def _state(self, partition: Partition) -> TablesState:
        try:
            return partition[TablesState]
        except KeyError as error:
            raise TableUseError(
                f"the table {self.name!r} was declared when partitions were open already: declare "
                "it where its module is imported, outside any function"
            ) from error

    def _committed(self, partition: Partition, read: Callable[[TablesState], Any]) -> Any:
        try:
            return read(self._state(partition))
        except TableError as error:
            if partition.closed:
                raise FencedError(f"partition {partition.number} was revoked here") from error
            partition.lose(error)
            raise


class Table(_Stored):
    """JSON by key. A value that was changed has to be put back: ``table[key] = value``."""

    def __init__(self, name: str, default: Default, help: str, world: World) -> None:
        super().__init__(name, default, name.encode() + b"\0v", world)
        self.help = help
        self._window: Window | None = None

    def tumbling(self, size: Seconds, expires: Seconds | None = None) -> "WindowedTable":
        """Windows of ``size`` seconds, one after the other, kept ``expires`` seconds after.

        Raises:
            SettingsError: a length makes no sense, or nothing says when windows expire.
        """
        return self.hopping(size, size, expires)

    def hopping(
        self, size: Seconds, step: Seconds, expires: Seconds | None = None
    ) -> "WindowedTable":
        """Windows of ``size`` seconds, one every ``step`` seconds, kept ``expires`` after.

        Raises:
            SettingsError: a length makes no sense, or nothing says when windows expire.
        """
        window = Window.of(self.name, size, step, expires)
        if self._window not in (None, window):
            raise SettingsError(
                f"the table {self.name!r} has other windows already: give these a table of their "
                "own"
            )
        self._window = window
        return WindowedTable(self, window, self._default, self._world)

    def __getitem__(self, key: Key) -> Any:
        stored = self._key(key)
        return self._value(stored, self._read(stored), key)

    def __setitem__(self, key: Key, value: Any) -> None:
        self._write(self._key(key), encode_value(self.name, value))

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        self._write(self._key(key), b"")

    def __contains__(self, key: Key) -> bool:
        return bool(self.each(key))

    def __iter__(self) -> Iterator[Key]:
        return self.keys()

    def get(self, key: Key, default: Any = None) -> Any:
        """The value of a key; ``default`` where it has none."""
        stored = self._key(key)
        raw = self._read(stored)
        return default if raw is None else self._value(stored, raw, key)

    def pop(self, key: Key, default: Any = None) -> Any:
        """Take the value of a key out; ``default`` where it has none."""
        raw = self._read(self._key(key))
        if raw is None:
            return default
        self._write(self._key(key), b"")
        return decode_value(raw)

    def each(self, key: Key) -> list[Any]:
        """The values of a key in the partitions that are seen here: one at most in a stage."""
        return self._each(self._key(key))

    def items(self) -> Iterator[tuple[Key, Any]]:
        """All keys with values, partition by partition; a key may come once for each."""
        return self._scan(self.prefix, _end(self.prefix))

    def keys(self) -> Iterator[Key]:
        """All keys; see :meth:`items`."""
        return (key for key, _ in self.items())

    def values(self) -> Iterator[Any]:
        """All values; see :meth:`items`."""
        return (value for _, value in self.items())

    def _key(self, key: Key) -> bytes:
        return self.prefix + encode_key(self.name, key)


class WindowedTable(_Stored):
    """A table with a value for each key and window; ``table[key]`` is a :class:`WindowSet`.

    An event belongs to the windows that its time is in: when it was received.
    """

    def __init__(self, table: Table, window: Window, default: Default, world: World) -> None:
        super().__init__(table.name, default, table.name.encode() + b"\0w", world)
        self.help = table.help
        self.window = window
        self._told_late = False

    def __getitem__(self, key: Key) -> "WindowSet":
        return WindowSet(self, key)

    def __setitem__(self, key: Key, value: Any) -> None:
        if not isinstance(value, WindowSet):
            self.put(key, value)
        elif value.table is not self or value.key != key:
            raise TableUseError(
                f"the table {self.name!r} takes values, not the windows of a key: use .current()"
            )

    def __contains__(self, key: Key) -> bool:
        return bool(self.each(key))

    def each(self, key: Key, delta: Seconds = 0) -> list[Any]:
        """As :meth:`Table.each`, of the window that :meth:`items` gives."""
        return self._each(self._start(self.at_ms(delta)) + encode_key(self.name, key))

    def items(self, delta: Seconds = 0) -> Iterator[tuple[Key, Any]]:
        """All keys with values of one window, partition by partition.

        The one ``delta`` seconds before the event's time; where there is no event, before now.
        """
        start = self._start(self.at_ms(delta))
        return self._scan(start, _end(start))

    def keys(self, delta: Seconds = 0) -> Iterator[Key]:
        """All keys of one window; see :meth:`items`."""
        return (key for key, _ in self.items(delta))

    def values(self, delta: Seconds = 0) -> Iterator[Any]:
        """All values of one window; see :meth:`items`."""
        return (value for _, value in self.items(delta))

    def value_at(self, key: Key, at_ms: int) -> Any:
        """The value of the newest window that a moment (Unix ms) is in."""
        stored = self._start(at_ms) + encode_key(self.name, key)
        return self._value(stored, self._read(stored), key)

    def put(self, key: Key, value: Any) -> None:
        """Put a value into every window of the event."""
        for stored in self._stored(key):
            self._write(stored, encode_value(self.name, value))

    def change(self, key: Key, operation: Callable[[Any, Any], Any], value: Any) -> None:
        """Put ``operation(value there, value)`` into every window of the event."""
        for stored in self._stored(key):
            raw = self._read(stored)
            there = self._missing(key) if raw is None else decode_value(raw)
            self._write(stored, encode_value(self.name, operation(there, value)))

    def _stored(self, key: Key) -> list[bytes]:
        name, starts = encode_key(self.name, key), self.window.starts(self.event_ms())
        return [self.prefix + Window.encode(start) + name for start in starts]

    def event_ms(self) -> int:
        """The time of the event for which a stage runs (Unix ms).

        Raises:
            TableUseError: no stage runs.
        """
        scope = SCOPE.get()
        if scope is None:
            raise TableUseError(
                f"there is no event here to say which window of {self.name!r} is meant: read with "
                ".now(), .delta(SECONDS) or .items(); write in a stage"
            )
        return time_ms(scope.entry)

    def at_ms(self, delta: Seconds) -> int:
        """The moment ``delta`` seconds before the event's time; without an event, before now."""
        now = self._now_ms() if SCOPE.get() is None else self.event_ms()
        return max(0, now - ms_of(delta))

    def now_ms(self) -> int:
        """The time of the clock (Unix ms)."""
        return self._now_ms()

    def _takes(self, state: TablesState, key: bytes) -> bool:
        # an event that comes so late (a dead letter that is tried again) has no window any more
        state.windows.setdefault(self.prefix, self.window)
        if not state.is_over(key, state.latest_ms):
            return True
        metrics.TABLE_LATE.labels(table=self.name).inc()
        if not self._told_late:
            self._told_late = True
            logger.warning(
                "an event came %d s before the newest one of its partition: its window in the "
                "table %r has expired, and does not count it. More are in "
                "hookstream_table_late_total; `expires` says how long a window waits",
                (state.latest_ms - self.event_ms()) // 1000,
                self.name,
            )
        return False

    def _start(self, at_ms: int) -> bytes:
        return self.prefix + Window.encode(self.window.newest(at_ms))


@dataclass(frozen=True, slots=True)
class WindowSet:
    """The windows of one key."""

    table: WindowedTable
    key: Key

    def current(self) -> Any:
        """The value at the time of the event for which the stage runs."""
        return self.table.value_at(self.key, self.table.event_ms())

    def now(self) -> Any:
        """The value at the time of the clock."""
        return self.table.value_at(self.key, self.table.now_ms())

    def delta(self, seconds: Seconds) -> Any:
        """The value so many seconds before the event's time; in a page, before now."""
        return self.table.value_at(self.key, self.table.at_ms(seconds))

    def apply(self, operation: Callable[[Any, Any], Any], value: Any) -> "WindowSet":
        """Put ``operation(value there, value)`` into every window of the event."""
        self.table.change(self.key, operation, value)
        return self

    def __iadd__(self, value: Any) -> "WindowSet":
        return self.apply(operator.add, value)

    def __isub__(self, value: Any) -> "WindowSet":
        return self.apply(operator.sub, value)

    def __imul__(self, value: Any) -> "WindowSet":
        return self.apply(operator.mul, value)


def _end(prefix: bytes) -> bytes:
    """What comes behind everything that begins with ``prefix``."""
    number = int.from_bytes(prefix, "big") + 1
    return number.to_bytes(len(prefix), "big")
