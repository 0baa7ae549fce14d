"""How lines are logged: as JSON or for people, with the ids of what they are about, never a flood.

Our own words from the set level on, the libraries' from warning on. Code logs by the standard
library's loggers; structlog renders what they and libraries log. ``event_id`` and ``request_id``
are bound with ``structlog.contextvars`` where one event or request is handled.
"""

import io
import logging
import os
import sys
from contextvars import Context, copy_context
from datetime import UTC, datetime
from typing import Any, Literal

from mode.utils.logging import CompositeLogger
from structlog.contextvars import clear_contextvars, merge_contextvars
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo

__all__ = ["LimitedHandler", "LogFormat", "QuietLogger", "logging_config", "without_ids"]

LogFormat = Literal["auto", "text", "json"]

WINDOW_SECONDS = 60.0
#: Different lines that are counted within a minute. Further ones are counted together with all
#: others from the same place in the code, for who can have different lines written could fill the
#: log with them.
MAX_LINES = 1000
#: Of a line, so far as it is compared with others.
MAX_COUNTED_CHARACTERS = 2000
OTHERS = "other lines of"
MAX_MESSAGE_CHARACTERS = 10_000
#: Of an error's text.
MAX_ERROR_CHARACTERS = 1000
#: Of a chain of errors, or of a group of them.
MAX_ERRORS = 5
MAX_FRAMES = 30
#: Of a traceback as text.
MAX_TRACEBACK_CHARACTERS = 20_000

_as_data = ExceptionDictTransformer(show_locals=False, max_frames=MAX_FRAMES)
#: Characters that a terminal obeys.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in b"\t\n"
}


class QuietLogger(CompositeLogger):
    """An agent's logger that asks whether a line is wanted before it puts it together."""

    def log(self, severity: int, message: str, *args: Any, **kwargs: Any) -> None:
        """Log as Mode does; Faust has a line for each batch of each stage, and few want those."""
        if self.logger.isEnabledFor(severity):
            # one frame more between the caller and the record
            level = kwargs.pop("stacklevel", 2) + 1
            super().log(severity, message, *args, stacklevel=level, **kwargs)


class LimitedHandler(logging.StreamHandler[Any]):
    """Writes to standard error, the same line of the same logger at most so often a minute.

    How often it came beyond that is said with the first line after the minute, or at the end.
    """

    def __init__(self, per_minute: int) -> None:
        """``per_minute``: how often; 0 is without a limit. Lines at debug have none."""
        super().__init__()
        self._per_minute = per_minute
        self._until = 0.0
        self._seen: dict[tuple[str, int, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or only count it."""
        try:
            wanted = self._is_wanted(record)
        except Exception:  # noqa: BLE001 a line that cannot be put together ends nobody's work
            self.handleError(record)
            return
        if wanted:
            super().emit(record)

    def _is_wanted(self, record: logging.LogRecord) -> bool:
        if not self._per_minute or record.levelno < logging.INFO:
            return True
        if record.created >= self._until:
            self._say_repeated()
            self._until = record.created + WINDOW_SECONDS
        line = (record.name, record.levelno, record.getMessage()[:MAX_COUNTED_CHARACTERS])
        if line not in self._seen and len(self._seen) >= MAX_LINES:
            line = (record.name, record.levelno, f"{OTHERS} {record.funcName}:{record.lineno}")
        seen = self._seen.get(line, 0)
        self._seen[line] = seen + 1
        return seen < self._per_minute

    def close(self) -> None:
        """Say what is left to be said."""
        self.acquire()
        try:
            self._say_repeated()
        finally:
            self.release()
        super().close()

    def _say_repeated(self) -> None:
        for (name, level, message), seen in self._seen.items():
            if (more := seen - self._per_minute) > 0:
                text = "%s (repeated %d times within a minute)"
                record = logging.LogRecord(name, level, "", 0, text, (message, more), None)
                # it is nobody's event or request
                Context().run(super().emit, record)
        self._seen.clear()


def without_ids() -> Context:
    """This context without the ids of the event and the request that are handled in it.

    For tasks: what works for all of them is not about the one that happened to begin it.
    """
    context = copy_context()
    context.run(clear_contextvars)
    return context


def logging_config(
    level: str, log_format: LogFormat = "auto", *, repeats_per_minute: int = 0
) -> dict[str, Any]:
    """A configuration for ``logging.config.dictConfig``: one line an event, to standard error.

    ``log_format``: "auto" is text where standard error is a terminal, else JSON.
    """
    terminal = sys.stderr.isatty()
    as_text = log_format == "text" or (log_format == "auto" and terminal)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": ProcessorFormatter,
                "foreign_pre_chain": [ExtraAdder(), merge_contextvars, _with_fields],
                "processors": [
                    ProcessorFormatter.remove_processors_meta,
                    *(
                        _text(colors=terminal and not os.environ.get("NO_COLOR"))
                        if as_text
                        else _JSON
                    ),
                ],
            }
        },
        "handlers": {
            "stderr": {
                "()": LimitedHandler,
                "per_minute": repeats_per_minute,
                "formatter": "line",
            },
        },
        "loggers": {
            "hookstream": {"level": level.upper()},
            # here Faust itself speaks, of Kafka's producer buffer and the like
            "hookstream.app.application": {"level": "WARNING"},
            "hookstream.app.web.server": {"level": "WARNING"},
            # a line for each attempt to connect, ten a second: what is in the way of topics is said
            # by app/kafka, once a minute
            "aiokafka": {"level": "CRITICAL"},
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
    }


def _with_fields(_: Any, __: str, event: EventDict) -> EventDict:
    """The fields of every line, and before all others."""
    record: logging.LogRecord = event["_record"]
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": event.pop("event")[:MAX_MESSAGE_CHARACTERS],
        "process": record.process,
    }
    return {**fields, **event, **fields}


def _bounded(exc_info: ExcInfo) -> list[dict[str, Any]]:
    return _cut(_as_data(exc_info))


def _cut(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stacks = stacks[:MAX_ERRORS]
    for stack in stacks:
        stack["exc_value"] = stack["exc_value"][:MAX_ERROR_CHARACTERS]
        stack["exc_notes"] = [
            note[:MAX_ERROR_CHARACTERS] for note in stack["exc_notes"][:MAX_ERRORS]
        ]
        stack["exceptions"] = [_cut(inner) for inner in stack["exceptions"][:MAX_ERRORS]]
    return stacks


_JSON = [
    ExceptionRenderer(_bounded),
    # not orjson: it refuses half a surrogate pair, which standard error escapes
    JSONRenderer(ensure_ascii=False, default=repr),
]


def _text(*, colors: bool) -> list[Any]:
    return [
        _harmless,
        ConsoleRenderer(
            colors=colors,
            event_key="message",
            timestamp_key="time",
            pad_event_to=0,
            sort_keys=False,
            exception_formatter=_traceback,
        ),
    ]


def _harmless(_: Any, __: str, event: EventDict) -> EventDict:
    """What a terminal would obey is written out; a line goes on indented, so none is forged."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = value.translate(_CONTROLS).replace("\n", "\n    ")
    return event


def _traceback(stream: Any, exc_info: ExcInfo) -> None:
    plain = io.StringIO()
    plain_traceback(plain, exc_info)
    stream.write(plain.getvalue()[-MAX_TRACEBACK_CHARACTERS:].translate(_CONTROLS))
