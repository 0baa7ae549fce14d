"""A model for names in free text: a function of somebody's, and the detector that asks it.

Such a function takes texts and gives the spans of each. It runs in a child process, which is asked
in between (:mod:`hookstream.app.routing.ner`): a first pass over an event notes the texts that the
detector meets, a second one knows what the model said of them.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from hookstream.app.errors import NerError
from hookstream.app.privacy.detector import Place, Span
from hookstream.app.privacy.kinds import KINDS

__all__ = ["DEFAULT_KINDS", "Answers", "AskedDetector", "Found", "Model", "kinds_of"]

T = TypeVar("T")
#: Start, end and kind.
Found = tuple[int, int, str]

#: What a function finds that does not say what, by an attribute ``kinds``.
DEFAULT_KINDS: Final = ("name", "address")
#: Some of them, of which one that there is not is told.
_SOME: Final = ", ".join(KINDS[:8])


class Answers:
    """What a model says of the texts of one event, or which texts it will have to be asked."""

    def __init__(self) -> None:
        self._known: dict[str, Sequence[Span]] = {}
        self._asked = False

    @property
    def texts(self) -> list[str]:
        """Those that were met, each once."""
        return list(self._known)

    def collect(self, work: Callable[[], T]) -> T | None:
        """Note the texts that ``work`` meets; what it gives, None where the model is needed."""
        done = self._within(work)
        return None if self._known else done

    def take(self, answers: Sequence[Sequence[Found]]) -> None:
        """What the model says of :attr:`texts`, in their order."""
        spans = [[Span(*found) for found in answer] for answer in answers]
        self._known = dict(zip(self._known, spans, strict=True))
        self._asked = True

    def give(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, once the model was asked.

        Raises:
            NerError: it meets a text of which the model has not said anything.
        """
        return self._within(work)

    def of(self, text: str) -> Sequence[Span]:
        """What was said of a text; while texts are collected, nothing yet."""
        known = self._known.get(text)
        if known is None:
            if self._asked:
                raise NerError("the model of HOOKSTREAM_NER was not asked of all texts")
            self._known[text] = known = ()
        return known

    def _within(self, work: Callable[[], T]) -> T:
        token = _NOW.set(self)
        try:
            return work()
        finally:
            _NOW.reset(token)


_NOW: ContextVar[Answers | None] = ContextVar("answers", default=None)


class AskedDetector:
    """Finds what the model has found. Asked of texts of several words, or with other scripts."""

    rank = 8
    #: A word with something behind it, or a character beyond ASCII, also as JSON escapes them.
    texts = r"[A-Za-z]\S*\s|[\x80-\xff]|\\[nrtu]"
    names = ""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = frozenset(kinds)

    def concerns(self, place: Place) -> bool:
        """No field: those that say something are other detectors'."""
        return False

    def find(self, text: str, place: Place) -> Iterable[Span]:
        """Parts of a text.

        Raises:
            NerError: nobody has asked the model.
        """
        if place.number:
            return ()
        answers = _NOW.get()
        if answers is None:
            raise NerError("the model of HOOKSTREAM_NER was not asked")
        return answers.of(text)


class Model:
    """``module:function`` as it is called in a child: imported there when this is unpickled."""

    __slots__ = ("_function", "name")

    def __init__(self, name: str, function: Callable[[list[str]], Any] | None = None) -> None:
        self.name = name
        self._function = function

    def __reduce__(self) -> tuple[Callable[[str], "Model"], tuple[str]]:
        return _loaded, (self.name,)

    def __call__(self, texts: list[str]) -> list[list[Found]]:
        """The spans of each text, as the function gives them.

        Raises:
            NerError: it raises, or gives something else. No text is in what that says.
        """
        assert self._function is not None
        try:
            answers = [list(found) for found in self._function(list(texts))]
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 somebody's code, whose words may quote a text
            raise NerError(f"{self.name} raised {type(error).__name__}{_where(error)}") from None
        if len(answers) != len(texts):
            raise NerError(f"{self.name} gave {len(answers)} answers to {len(texts)} texts")
        return [
            [self._checked(span, text) for span in found]
            for found, text in zip(answers, texts, strict=True)
        ]

    def _checked(self, span: Any, text: str) -> Found:
        try:
            start, end, kind = span
        except (TypeError, ValueError):
            raise NerError(f"{self.name}: a span is (start, end, kind)") from None
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(text)):
            raise NerError(f"{self.name}: a span that is not in its text")
        if kind not in KINDS:
            # where somebody has them in another order it is the text
            told = "" if str(kind) in text else f" {str(kind)[:40]!r}"
            raise NerError(
                f"{self.name}: there is no such kind{told}: there are {_SOME} and others "
                "(docs/privacy.md)"
            )
        return int(start), int(end), str(kind)


def kinds_of(name: str) -> list[str]:
    """The kinds that ``module:function`` finds: its attribute ``kinds``, or names and addresses.

    Raises:
        NerError: it cannot be imported, is no function, or finds what there is not.
    """
    kinds = getattr(_imported(name), "kinds", DEFAULT_KINDS)
    if not isinstance(kinds, list | tuple | set | frozenset) or not kinds:
        raise NerError(f'{name}.kinds: what it finds, such as ("name", "address")')
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise NerError(
            f"{name}.kinds: there is no kind {str(wrong[0])[:40]!r}; there are {', '.join(KINDS)}"
        )
    return sorted(kinds)


def _loaded(name: str) -> Model:
    return Model(name, _imported(name))


def _imported(name: str) -> Callable[[list[str]], Any]:
    module, _, wanted = name.partition(":")
    # as stages are found: a module in the current folder is, whatever was started
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module), wanted)
    except (Exception, SystemExit) as error:  # noqa: BLE001 whatever somebody's module raises
        raise NerError(f"{name} cannot be imported: {error!r}"[:1000]) from None
    if not callable(function):
        raise NerError(f"{name} is no function, but {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def _where(error: BaseException) -> str:
    """The last line that it came by."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
