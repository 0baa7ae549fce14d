"""Masking: rules applied to values, texts and events. Pure; what goes in stays as it was."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from hookstream.app.errors import BlockedByRuleError
from hookstream.app.privacy.detector import NOWHERE, Place
from hookstream.app.privacy.finder import Finder, Lens
from hookstream.app.privacy.forms import HIDDEN, masked
from hookstream.app.privacy.places import field_name
from hookstream.app.privacy.provider_paths import PROVIDER_PATHS
from hookstream.app.privacy.pseudonyms import Pseudonyms, is_pseudonym
from hookstream.app.privacy.rules import BLOCK, DROP, MASK, PASS, PSEUDONYM
from hookstream.codecs.envelope import Event
from hookstream.codecs.form import FORM
from hookstream.codecs.json_payload import dump_json, parse_payload
from hookstream.codecs.readable import media_type, text_of

__all__ = ["FIELD", "Masked", "Masker"]

#: What the path of a field names, whatever is in there.
FIELD: Final = "field"
JSON: Final = "application/json"
#: What is removed.
_GONE: Final = object()
#: JSON within JSON, so many times; what is in there deeper is looked at as a text.
MAX_INNER: Final = 1
#: A text that is longer is no JSON that anybody looks into.
MAX_INNER_CHARS: Final = 1024 * 1024

#: Names of fields that are shorter are no value.
MIN_NAME_CHARS: Final = 7

#: Of texts in which something may be, in an event; what is beyond is hidden as a whole. A sender
#: could fill a body with card numbers, each of which takes some microseconds.
MAX_CANDIDATE_CHARS: Final = 128 * 1024

#: Counted by kind and by what became of it.
Counts = Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Masked:
    """An event as a reader sees it, and what was hidden: how many of which kind, and how."""

    event: Event
    counts: Counts


class _Paths:
    """Paths of fields as a tree: a step costs a look-up."""

    __slots__ = ("here", "names")

    def __init__(self) -> None:
        self.names: dict[str, _Paths] = {}
        #: Kind and action of what stands here.
        self.here: tuple[str, str] | None = None

    def add(self, path: str, kind: str, action: str) -> None:
        node = self
        for name in path.split("."):
            node = node.names.setdefault(name, _Paths())
        node.here = kind, action


class Masker:
    """Applies what one reader of one tool's events is given, of one tenant."""

    def __init__(
        self,
        actions: Mapping[str, str],
        *,
        provider: str = "",
        fields: Mapping[str, str] | None = None,
        pseudonyms: Pseudonyms | None = None,
        finder: Finder | None = None,
    ) -> None:
        """``actions`` by kind, without those that pass; ``fields`` by their paths.

        Raises ValueError: pseudonyms are wanted, and there is no key for them.
        """
        fields = fields or {}
        if pseudonyms is None and PSEUDONYM in (*actions.values(), *fields.values()):
            raise ValueError("pseudonyms want a key: set HOOKSTREAM_PSEUDONYM_KEY")
        self.actions = dict(actions)
        self.pseudonyms = pseudonyms
        self._finder = finder or Finder(actions)
        self.paths = _Paths()
        for path, kind in PROVIDER_PATHS.get(provider, {}).items():
            if action := self.actions.get(kind):
                self.paths.add(path, kind, action)
        for path, action in fields.items():
            self.paths.add(path, FIELD, action)
        self.idle = not self.actions and not self.paths.names
        self._blocks = {kind for kind, action in self.actions.items() if action == BLOCK}
        if BLOCK in fields.values():
            self._blocks.add(FIELD)

    def event(self, event: Event) -> Masked:
        """An event as the reader sees it: the same object where there is nothing to hide.

        Where there is, its payload is JSON of what is read of the payload, or the text. What is
        neither JSON nor text is taken out as a whole.

        Raises:
            BlockedByRuleError: a rule says that the event goes nowhere.
            CodecError: the payload cannot be had.
        """
        counts: Counts = Counter()
        if event.blocked_by in self._blocks:
            # found when it was masked before it was kept: what is kept does not show it any more
            raise BlockedByRuleError(event.blocked_by)
        if self.idle:
            return Masked(event, counts)
        changes: dict[str, Any] = {}
        if event.schema_errors:
            changes["schema_errors"] = tuple(map(self.text, event.schema_errors))
        if event.enriched and (lens := self._finder.lens(event.enriched)):
            added = _Pass(self, lens, counts).values(event.enrichment, None)
            changes["enriched"] = dump_json(added or {})
        if lens := self._lens(event):
            changes |= _payload(event, _Pass(self, lens, counts))
        return Masked(replace(event, **changes) if counts else event, counts)

    def value(self, value: Any, counts: Counts) -> Any:
        """JSON values; the very same object where there is nothing to hide, None where all goes.

        Raises BlockedByRuleError.
        """
        return _Pass(self, self._finder.whole, counts).values(value, self.paths)

    def text(self, text: str) -> str:
        """A text that has no field, such as what an error says. Never raises for a rule."""
        try:
            shown = _Pass(self, self._finder.whole, Counter()).text(text, NOWHERE)
        except BlockedByRuleError:
            return HIDDEN
        return HIDDEN if shown is _GONE else str(shown)

    def _lens(self, event: Event) -> Lens | None:
        """What may find anything in a payload; None where nothing does."""
        payload, whole = event.payload, self._finder.whole
        if not payload:
            return None
        if self.paths.names:
            return whole
        if event.content_type not in ("", JSON):
            kind, named = media_type(event.content_type), event.content_type.lower()
            if "charset" in named and "utf-8" not in named:
                return whole
            if kind == FORM:
                payload = _as_json(unquote_to_bytes(payload.replace(b"+", b" ")))
            elif kind == "multipart/form-data" or kind.endswith(("/xml", "+xml")):
                return whole
        # what is written in 16 bits, in base64 of Pub/Sub, or in a token is not seen as it stands
        if b"\0" in payload or payload.startswith((b"eyJ", b"\xff\xfe", b"\xfe\xff")):
            return whole
        if all(name in payload for name in (b'"subscription"', b'"message"', b'"data"')):
            return whole
        return self._finder.lens(payload)


def _as_json(form: bytes) -> bytes:
    """A form's text in which names and values stand as JSON has them, for who looks for both."""
    return b'"' + form.replace(b"=", b'": "').replace(b"&", b'", "') + b'"'


def _payload(event: Event, seen: "_Pass") -> dict[str, Any]:
    """Payload, content type, and what it parses to; nothing where there is nothing to hide."""
    data = event.data()
    kind = JSON
    if data is not None:
        value = seen.values(data, seen.masker.paths)
        if value is data:
            return {}
        payload = dump_json(value)
    else:
        value, kind = None, "text/plain; charset=utf-8"
        text = text_of(event.payload, event.content_type)
        if text is None:
            seen.counts[FIELD, DROP] += 1
            payload = b""
        else:
            shown = seen.text(text, NOWHERE)
            if shown is text:
                return {}
            payload = b"" if shown is _GONE else shown.encode(errors="replace")
    # what reads it need not parse it again; the list is shared with nobody
    parsed = [payload, kind, value]
    return {"payload": payload, "content_type": kind, "_parsed": parsed, "_came": None}


class _Pass:
    """One pass over one thing, with those detectors that may find anything in it."""

    __slots__ = ("_left", "_lens", "counts", "masker")

    def __init__(self, masker: Masker, lens: Lens, counts: Counts) -> None:
        self.masker = masker
        self._lens = lens
        self._left = MAX_CANDIDATE_CHARS
        self.counts = counts

    def values(self, value: Any, paths: _Paths | None) -> Any:
        """As :meth:`Masker.value`."""
        found = self._walk(value, NOWHERE, (paths,) if paths and paths.names else (), 0)
        return None if found is _GONE else found

    def _walk(self, value: Any, place: Place, paths: Sequence[_Paths], inner: int) -> Any:
        if paths:
            for node in paths:
                if node.here is not None:
                    return self._whole(value, *node.here)
        kind = type(value)
        if kind is str:
            if inner < MAX_INNER and value[:1] in ("{", "["):
                return self._inner(value, place, inner)
            return self.text(value, place)
        if kind is dict:
            return self._object(value, place, paths, inner)
        if kind is list:
            return self._list(value, place, paths, inner)
        if (kind is int or isinstance(value, float)) and self._lens.concerns(place):
            shown = self.text(str(value), place._replace(number=True))
            return value if shown == str(value) else shown
        return value

    def _object(
        self, value: dict[str, Any], place: Place, paths: Sequence[_Paths], inner: int
    ) -> dict[str, Any]:
        new: dict[str, Any] = {}
        same, around = True, place.field
        for name, item in value.items():
            below = _below(paths, name) if paths else paths
            shown = self._walk(item, Place(field_name(name), around), below, inner)
            called = self.text(name, NOWHERE) if len(name) >= MIN_NAME_CHARS else name
            if shown is item and called is name:
                new[name] = item
                continue
            same = False
            if shown is not _GONE and called is not _GONE:
                # two names may be masked alike; places are counted, not tried one by one
                new[f"{called}~{len(new)}" if called in new else called] = shown
        return value if same else new

    def _list(
        self, value: list[Any], place: Place, paths: Sequence[_Paths], inner: int
    ) -> list[Any]:
        below = _below(paths, "*") if paths else paths
        shown = [self._walk(item, place, below, inner) for item in value]
        if all(new is old for new, old in zip(shown, value, strict=True)):
            return value
        return [item for item in shown if item is not _GONE]

    def _inner(self, text: str, place: Place, inner: int) -> Any:
        """A text that is JSON: masked as what it is; as a text where it is none."""
        try:
            value = parse_payload(text.encode()) if len(text) <= MAX_INNER_CHARS else None
        except ValueError:
            value = None
        if not isinstance(value, dict | list):
            return self.text(text, place)
        shown = self._walk(value, place, (), inner + 1)
        if shown is value:
            return text
        return dump_json(None if shown is _GONE else shown).decode()

    def text(self, text: str, place: Place) -> Any:
        """A text; the very same object where there is nothing to hide, ``_GONE`` for drop."""
        detectors = self._lens.candidates(text, place)
        if not detectors or text == HIDDEN:
            return text
        self._left -= len(text)
        if self._left < 0:
            self.counts[FIELD, MASK] += 1
            return HIDDEN
        spans = self._lens.spans(text, place, detectors)
        if not spans or is_pseudonym(text):
            return text
        parts, at, gone = [], 0, False
        for span in spans:
            found, action = text[span.start : span.end], self.masker.actions[span.kind]
            if is_pseudonym(found):
                continue
            if action == BLOCK:
                raise BlockedByRuleError(span.kind)
            shown = self._shown(span.kind, found, action)
            if shown == found:
                continue
            self.counts[span.kind, action] += 1
            gone = gone or action == DROP
            parts += [text[at : span.start], shown]
            at = span.end
        if gone:
            return _GONE
        return "".join((*parts, text[at:])) if parts else text

    def _shown(self, kind: str, text: str, action: str) -> str:
        if action == PSEUDONYM:
            assert self.masker.pseudonyms is not None
            return self.masker.pseudonyms.name(kind, text)
        return masked(kind, text) if action == MASK else ""

    def _whole(self, value: Any, kind: str, action: str) -> Any:
        """All that stands at a path of a rule's."""
        if action == PASS or value is None or value == "":
            return value
        if action == BLOCK:
            raise BlockedByRuleError(kind)
        if action == DROP:
            self.counts[kind, action] += 1
            return _GONE
        text = value if isinstance(value, str) else dump_json(value).decode()
        if is_pseudonym(text):
            return value
        hidden = action == MASK and kind == FIELD
        shown = HIDDEN if hidden else self._shown(kind, text, action)
        if shown == value:
            return value
        self.counts[kind, action] += 1
        return shown


def _below(paths: Sequence[_Paths], name: str) -> Sequence[_Paths]:
    """The places one step further down."""
    found = []
    for node in paths:
        if (one := node.names.get(name)) is not None:
            found.append(one)
        if name != "*" and (one := node.names.get("*")) is not None:
            found.append(one)
    return found
