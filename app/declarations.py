"""What a stream developer declares, looked at where it stands: functions, numbers, timers.

Python and Faust take nearly anything for an argument. What cannot work is found here at the start,
with file and line, and not when the first event comes, or never.
"""

import functools
import inspect
import math
import sys
from collections.abc import Callable, Collection
from datetime import timedelta, tzinfo
from typing import Any, Final

import faust
from faust.cli import base as command_line
from faust.serializers import codecs
from faust.utils import cron

from hookstream.app.errors import SettingsError

__all__ = [
    "AGENT",
    "ASYNC",
    "EITHER",
    "PLAIN",
    "CheckedApp",
    "Kind",
    "caller",
    "check_codec",
    "check_default",
    "check_flag",
    "check_function",
    "check_name",
    "check_number",
    "declared_twice",
    "name_of",
    "place_of",
    "shown",
]

#: How often a task that waits to be the leader's looks whether this worker is.
LEADER_SECONDS = 0.5

#: Classes whose values would come back as something else, or not at all.
NOT_JSON = (set, frozenset, tuple, bytes, bytearray, complex)

#: Which functions are meant, and how one is written.
Kind = tuple[Callable[[Any], bool], str]


def _is_plain(function: Any) -> bool:
    return not (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    )


ASYNC: Final[Kind] = (inspect.iscoroutinefunction, "async def")
PLAIN: Final[Kind] = (_is_plain, "def")
#: A batch function may be either; with a `yield` it would do nothing when it is called.
EITHER: Final[Kind] = (lambda f: inspect.iscoroutinefunction(f) or _is_plain(f), "async def")
#: What an agent yields goes to its sinks.
AGENT: Final[Kind] = (
    lambda f: inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f),
    "async def",
)


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function, for people: ``my_project/agents/enrich.py:12``."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return str(getattr(function, "__module__", "?"))
    return f"{code.co_filename}:{code.co_firstlineno}"


def name_of(function: Any) -> str:
    """What a function is called, for people."""
    return str(getattr(function, "__name__", type(function).__name__))


def caller(depth: int = 2) -> str:
    """File and line of the call ``depth`` frames up."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def declared_twice(what: str, name: str, place: str, modules: Collection[str]) -> str:
    """What is said of something that is declared again at the same line."""
    why = (
        f"its file is imported as {' and as '.join(sorted(modules))}: name it once, always the same"
        if len(modules) > 1
        else "by a loop, by a function that is called again, or by a module that is imported "
        "again. Give each a name of its own"
    )
    return f"the {what} {name!r} ({place}) is declared twice: {why}"


def check_function(
    what: str, function: Any, kind: Kind, takes: str, *, optional: bool = False
) -> None:
    """Refuse what is no function of the ``kind`` that is meant.

    ``takes``: its arguments, for people; as many are wanted, or with ``optional`` none, too.

    Raises:
        SettingsError: with its place, and how it is written.
    """
    name, place = name_of(function), place_of(function)
    is_wanted, begins = kind
    wanted = f"{what} {name!r} ({place}) has to be `{begins} {name}({takes})`"
    if not callable(function) or not hasattr(function, "__name__"):
        raise SettingsError(
            f"{what} {name!r} ({place}) has no name of its own: declare a function, "
            f"`{begins} NAME({takes})`"
        )
    if kind is not PLAIN and hasattr(function, "cache_parameters"):
        raise SettingsError(
            f"{what} {name!r} ({place}) is cached by functools, which keeps what can be awaited "
            "once only: keep what it looks up in a dictionary of your own"
        )
    # what is a plain `def` may hand on what another one gives; all else is what it is
    inner = inspect.unwrap(function) if _is_plain(function) else function
    if not is_wanted(inner):
        yields = inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)
        raise SettingsError(
            f"{wanted}: it has a `yield`, and would do nothing when it is called"
            if yields
            else wanted
        )
    given = [None] * len(takes.split(",")) if takes else []
    try:
        signature = inspect.signature(function)
        try:
            signature.bind(*given)
        except TypeError:
            if not optional:
                raise
            signature.bind()
    except TypeError as error:
        counted = {0: "nothing", 1: f"one {takes} and nothing else"}.get(len(given), takes)
        raise SettingsError(f"{what} {name!r} ({place}) has to take {counted}: {error}") from error


def check_name(what: str, name: object, place: str) -> str:
    """Refuse what is no text, such as the function itself where the parentheses were forgotten.

    Raises:
        SettingsError: with the place.
    """
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{what} ({place}) has to be text, not {shown(name)}")
    return name


def check_flag(what: str, flag: object, place: str) -> None:
    """Refuse what is neither True nor False: ``"no"`` would count as yes.

    Raises:
        SettingsError: with the place.
    """
    if not isinstance(flag, bool):
        raise SettingsError(f"{what} ({place}) has to be True or False, not {shown(flag)}")


def check_number(
    what: str, value: object, place: str, *, least: float = 0.0, whole: bool = False
) -> None:
    """Refuse what is no finite number of at least ``least``, or above 0 where that is 0.

    Raises:
        SettingsError: with the place.
    """
    fits = isinstance(value, (int,) if whole else (int, float)) and not isinstance(value, bool)
    if fits and math.isfinite(value) and (value >= least if least else value > 0):  # type: ignore[arg-type, operator]
        return
    wanted = f"at least {least:g}" if least else "above 0"
    kind = "a whole number" if whole else "a number"
    raise SettingsError(f"{what} ({place}) has to be {kind}, {wanted}, not {shown(value)}")


def check_codec(channel: str, codec: object, place: str) -> None:
    """Refuse a codec that Faust does not know: the first value would say so.

    Raises:
        SettingsError: with the place, and codecs that there are.
    """
    try:
        if isinstance(codec, str) and codec:
            codecs.get_codec(codec)
            return
    except (KeyError, TypeError):
        pass
    raise SettingsError(
        f"`codec` of the stream channel {channel!r} ({place}) is 'json', 'raw', or another that "
        f"Faust knows by name; not {shown(codec)}"
    )


def check_default(table: str, default: Callable[..., Any], place: str) -> None:
    """Refuse what makes no first value for a table: it waits for something, or wants arguments.

    Raises:
        SettingsError: with the place.
    """
    what = f"`default` of the table {table!r} ({place})"
    if inspect.iscoroutinefunction(default):
        raise SettingsError(f"{what} has to be a plain function, not {name_of(default)!r}")
    if default in NOT_JSON:
        raise SettingsError(f"{what} makes values that JSON has not, as {name_of(default)!r} does")
    try:
        inspect.signature(default).bind()
    except TypeError as error:
        raise SettingsError(f"{what} has to take nothing: {error}") from error
    except ValueError:
        # `int` and the like have none that Python knows
        return


def shown(value: object) -> str:
    """A wrong value, for people: short, and of a function its name."""
    if callable(value):
        # a decorator without its parentheses is called with the function
        return f"the function {name_of(value)!r} (are parentheses missing at the decorator?)"
    return repr(value)[:100]


class CheckedApp(faust.App):
    """Faust's application, with wrong arguments of its decorators refused where they stand."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        #: Places of what has no name that could be taken, and the module that declared it there.
        self._modules_at: dict[tuple[str, str], str] = {}
        super().__init__(*arguments, **options)

    def _check_module(self, what: str, function: Any) -> None:
        """Refuse what is declared again because its file is imported under another name.

        Raises:
            SettingsError: with both names: it would be begun twice.
        """
        place, module = place_of(function), str(function.__module__)
        known = self._modules_at.setdefault((what, place), module)
        if known != module:
            raise SettingsError(declared_twice(what, name_of(function), place, {known, module}))

    def task(self, fun: Any = None, *, on_leader: bool = False, traced: bool = True) -> Any:
        """Faust's; with ``on_leader`` it begins where and when a worker becomes the leader.

        Faust looks once, at the start, when nobody is.

        Raises:
            SettingsError: it is no ``async def`` of no argument, or of the app.
        """
        if fun is None:
            return lambda function: self.task(function, on_leader=on_leader, traced=traced)
        check_function("the task", fun, ASYNC, "app", optional=True)
        check_flag("`on_leader` of a task", on_leader, place_of(fun))
        self._check_module("task", fun)
        if not on_leader:
            return super().task(fun, traced=traced)

        @functools.wraps(fun)
        async def once_leading(*arguments: Any) -> None:
            while not self.is_leader():
                await self.sleep(LEADER_SECONDS)
                if self.should_stop:
                    return
            await fun(*arguments)

        super().task(once_leading, traced=traced)
        return fun

    def timer(self, interval: Any, *arguments: Any, **options: Any) -> Any:
        """Faust's.

        Raises:
            SettingsError: the interval is no length of time above 0, or the function none for it.
        """
        seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
        check_number("the interval of a timer, in seconds,", seconds, caller())
        check_flag("`on_leader` of a timer", options.get("on_leader", False), caller())
        declare = super().timer(seconds, *arguments, **options)

        def decorate(function: Any) -> Any:
            check_function("the timer", function, ASYNC, "app", optional=True)
            self._check_module("timer", function)
            return declare(function)

        return decorate

    def crontab(self, cron_format: Any, *, timezone: Any = None, **options: Any) -> Any:
        """Faust's.

        Raises:
            SettingsError: there is no such time, or the function is none for it.
        """
        what = f"the crontab {shown(cron_format)} ({caller()})"
        if timezone is not None and not isinstance(timezone, tzinfo):
            raise SettingsError(
                f"{what}: a timezone is zoneinfo.ZoneInfo('Europe/Berlin'), say, not "
                f"{shown(timezone)}"
            )
        try:
            cron.secs_for_next(cron_format, timezone)
        except Exception as error:
            raise SettingsError(
                f"{what} is none: minute, hour, day, month and day of the week, such as "
                f"'30 18 * * *' ({error})"
            ) from error
        check_flag("`on_leader` of a crontab", options.get("on_leader", False), caller())
        declare = super().crontab(cron_format, timezone=timezone, **options)

        def decorate(function: Any) -> Any:
            check_function("the crontab", function, ASYNC, "app", optional=True)
            self._check_module("crontab", function)
            return declare(function)

        return decorate

    def command(self, *options: Any, **more: Any) -> Any:
        """Faust's.

        Raises:
            SettingsError: there is a command of its name, one of Hookstream's own perhaps; or it
                has no parentheses, which would declare nothing.
        """
        if options and inspect.iscoroutinefunction(options[0]):
            raise SettingsError(
                f"the command {name_of(options[0])!r} ({place_of(options[0])}) is declared by "
                "`@app.command()`, with parentheses"
            )
        declare = super().command(*options, **more)

        def decorate(function: Any) -> Any:
            check_function("the command", function, ASYNC, "self", optional=True)
            name = name_of(function).lower().replace("_", "-")
            if name in command_line.cli.commands:
                raise SettingsError(
                    f"there is a command {name!r} already: rename that at {place_of(function)}"
                )
            return declare(function)

        return decorate
