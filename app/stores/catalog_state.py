"""From rows to a catalog, and from what has changed of them to the next one.

A state holds the rows and what each stands for. :meth:`CatalogState.apply` takes rows that are new,
other or gone, and touches what follows from them; :meth:`CatalogState.catalog` gives the snapshot,
which shares with the one before what is the same. All rows at once are only many changes: a catalog
that came by changes is equal to one made of all rows.
"""

import asyncio
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from mode.utils.logging import get_logger

from hookstream.app.errors import SealingKeyError
from hookstream.app.keyring.tool_secrets import CLEAR, ToolSecrets
from hookstream.app.priority import PRIORITIES, rank
from hookstream.app.privacy.rules import HIDDEN_FROM_ALL, Rules
from hookstream.app.routing.catalog import ApiKey, Catalog, Context, Subscription, Tool
from hookstream.app.routing.tenants import Tenant
from hookstream.app.stores.catalog_rows import (
    KEYS,
    UNREADABLE,
    Key,
    Row,
    Rows,
    context_from_row,
    key_of,
    keys_from_row,
    subject_of,
    subscription_from_row,
    template_from_row,
    tenant_from_row,
    tool_from_row,
)
from hookstream.app.summaries.templates import Template, TemplateBook
from hookstream.codecs.schemas import Parsed

__all__ = ["CatalogState", "build", "merged"]

logger = get_logger(__name__)

#: How long rows are worked on before the event loop turns once.
SLICE_SECONDS: Final = 0.005
#: More changes than these are sorted in, fewer are put in their places one by one.
PLACED: Final = 16
#: What is said of tables, in the order in which it is said.
_ORDER: Final = {table: number for number, table in enumerate(KEYS)}

#: What has changed: rows by table and key, None for one that is gone.
Changed = Mapping[str, Mapping[Key, Row | None]]
ContextKey = tuple[str, str]


class Understands(Protocol):
    """What knows schemas."""

    async def understood(
        self, rows: Iterable[Row], passed: list[str], *, offline: bool = False
    ) -> dict[ContextKey, Parsed]: ...


class Pauses:
    """Lets the event loop turn now and then in long work."""

    def __init__(self) -> None:
        self._until = time.monotonic() + SLICE_SECONDS

    async def __call__(self) -> None:
        if time.monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + SLICE_SECONDS


async def build(
    rows: Rows,
    schemas: Understands,
    *,
    offline: bool = False,
    before: Catalog | None = None,
    secrets: ToolSecrets = CLEAR,
) -> "CatalogState":
    """The state that ``rows`` make; what cannot be used of it is left out, and said in the log.

    Tools and contexts that cannot be read stay as they were ``before``. ``offline``: PostgreSQL
    cannot be asked for what is not among the rows.
    """
    state = CatalogState(schemas, before, secrets)
    everything = {
        table: {key_of(table, row): row for row in getattr(rows, table)} for table in KEYS
    }
    await state.apply(rows.version, rows.token, everything, offline=offline)
    return state


class CatalogState:
    """Rows, and what each stands for. One that raised in :meth:`apply` is not used any more."""

    def __init__(
        self,
        schemas: Understands,
        before: Catalog | None = None,
        secrets: ToolSecrets = CLEAR,
    ) -> None:
        """``before``: where tools and contexts are taken from whose rows cannot be read."""
        self._secrets = secrets
        self._understands = schemas
        self._before = before or Catalog()
        self._catalog = Catalog()
        #: Fields of the catalog that are to be made anew.
        self._touched: set[str] = set()
        self._rows: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        #: What cannot be used, by the place of its table and its key: how it is called.
        self._failed: dict[tuple[int, Key], str] = {}
        self._tools: dict[str, Tool] = {}
        self._unreadable: set[str] = set()
        #: Tools whose secrets could not be opened, and why.
        self._sealed: dict[str, str] = {}
        #: How many tools name a subject as their schema's.
        self._subjects: Counter[Key] = Counter()
        self._contexts: dict[ContextKey, Context] = {}
        self._subscriptions: dict[Key, Subscription] = {}
        self._unused: dict[Key, str] = {}
        #: Keys of the subscriptions that each context has, usable or not.
        self._of_context: dict[ContextKey, set[Key]] = defaultdict(set)
        #: Subscriptions by tenant and tool, or "*".
        self._wanted: dict[tuple[str, str], dict[Key, Subscription]] = defaultdict(dict)
        self._by_tool: dict[str, tuple[Subscription, ...]] = {}
        self._urgent: set[str] = set()
        self._priorities: dict[ContextKey, frozenset[str]] = {}
        #: How many subscriptions give each priority.
        self._given: Counter[str] = Counter()
        self._templates: dict[str, dict[Key, tuple[str, Template]]] = defaultdict(dict)
        self._books: dict[str, TemplateBook] = {}
        self._keys: dict[bytes, ApiKey] = {}
        self._schemas: dict[ContextKey, Parsed] = {}
        self._tenants: dict[str, Tenant] = {}
        self._masking: dict[str, Rules] = {}

    def rows(self) -> Rows:
        """All rows, of the state that the catalog is of."""
        found = (list(self._rows[table].values()) for table in KEYS)
        return Rows(self._catalog.version, self._catalog.token, *found)

    def catalog(self) -> Catalog:
        """The snapshot."""
        return self._catalog

    async def open_again(self) -> None:
        """Try once more to open secrets that could not be."""
        rows: dict[Key, Row | None] = {
            (name,): self._rows["tools"][(name,)] for name in self._sealed
        }
        catalog = self._catalog
        await self.apply(catalog.version, catalog.token, {"tools": rows})

    async def apply(
        self, version: int, token: int, changed: Changed, *, offline: bool = False
    ) -> None:
        """Take rows that have changed: the state is that of ``version`` and ``token`` then.

        Raises:
            UnavailableError: PostgreSQL is away, and not ``offline``.
        """
        pause = Pauses()
        tools = await self._apply_tools(changed.get("tools", {}), pause)
        contexts = await self._apply_contexts(changed.get("contexts", {}), pause)
        subscriptions = dict(changed.get("subscriptions", {}))
        for name in contexts:
            for key in self._of_context.get(name, ()):
                # what it inherits may be another, and without its context it is nothing
                subscriptions.setdefault(key, self._rows["subscriptions"][key])
        await self._apply_subscriptions(subscriptions, tools, pause)
        await self._apply_templates(changed.get("templates", {}), pause)
        await self._apply_keys(changed.get("keys", {}), pause)
        await self._apply_schemas(changed.get("schemas", {}), offline=offline)
        self._apply_tenants(changed.get("tenants", {}))
        self._apply_masking(changed.get("masking", {}))
        self._before = Catalog()  # what is not here by now is gone
        self._catalog = self._made(version, token)

    def _made(self, version: int, token: int) -> Catalog:
        """The next snapshot: copies of what was touched, the rest as the last one has it."""
        whole: dict[str, Any] = {
            "tools": self._tools,
            "contexts": self._contexts,
            "by_tool": self._by_tool,
            "books": self._books,
            "keys": self._keys,
            "priorities": self._priorities,
            "schemas": self._schemas,
            "unused": self._unused,
            "sealed_tools": self._sealed,
            "tenants": self._tenants,
            "masking": self._masking,
        }
        new: dict[str, Any] = {
            name: dict(value) for name, value in whole.items() if name in self._touched
        }
        if "urgent_tools" in self._touched:
            new["urgent_tools"] = frozenset(self._urgent)
        if "unreadable_tools" in self._touched:
            new["unreadable_tools"] = frozenset(self._unreadable)
        if "passed_over" in self._touched:
            new["passed_over"] = tuple(self._failed[name] for name in sorted(self._failed))
        given = (priority for priority, count in self._given.items() if count)
        new["most_urgent"] = min(given, key=rank, default=PRIORITIES[-1])
        self._touched.clear()
        return replace(self._catalog, version=version, token=token, **new)

    def _store(self, table: str, key: Key, row: Row | None) -> Row | None:
        """Keep a row; the one before it. Whatever was said of that is not said any more."""
        earlier = self._rows[table].pop(key, None)
        if row is not None:
            self._rows[table][key] = row
        if self._failed.pop((_ORDER[table], key), None) is not None:
            self._touched.add("passed_over")
        return earlier

    def _pass_over(self, table: str, key: Key, called: str) -> None:
        self._failed[_ORDER[table], key] = called
        self._touched.add("passed_over")

    # --- tools and contexts

    async def _apply_tools(self, rows: Mapping[Key, Row | None], pause: Pauses) -> set[str]:
        """Returns the tools that are new, gone, or another tenant's now."""
        moved = set()
        await self._secrets.prepare(row for row in rows.values() if row is not None)
        for key, row in rows.items():
            await pause()
            (name,) = key
            known = self._tools.get(name)
            tool = self._tool(key, row)
            if tool != known:
                self._touched.add("tools")
                _put(self._tools, name, tool)
            if (tool and tool.tenant) != (known and known.tenant):
                moved.add(name)
        return moved

    def _tool(self, key: Key, row: Row | None) -> Tool | None:
        (name,) = key
        earlier = self._store("tools", key, row)
        for one, count in ((earlier, -1), (row, 1)):
            if one is not None and (subject := subject_of(one)) is not None:
                self._subjects[one["tenant"], subject] += count
                if not self._subjects[one["tenant"], subject]:
                    del self._subjects[one["tenant"], subject]
        if name in self._unreadable:
            self._unreadable.discard(name)
            self._touched.add("unreadable_tools")
        if self._sealed.pop(name, None) is not None:
            self._touched.add("sealed_tools")
        if row is None:
            return None
        try:
            return tool_from_row(row, self._secrets)
        except SealingKeyError as error:
            # what it was before may be a secret that has been replaced since: it is not gone by
            logger.error("the secrets of tool %s cannot be opened: %s", name, error)
            self._pass_over("tools", key, f"tool {name}")
            self._unreadable.add(name)
            self._sealed[name] = str(error)
            self._touched |= {"unreadable_tools", "sealed_tools"}
            return None
        except UNREADABLE as error:
            known = self._tools.get(name) or self._before.tools.get(name)
            _say_unreadable("tool", name, error, known=known is not None)
            self._pass_over("tools", key, f"tool {name}")
            self._unreadable.add(name)
            self._touched.add("unreadable_tools")
            return known

    async def _apply_contexts(
        self, rows: Mapping[Key, Row | None], pause: Pauses
    ) -> set[ContextKey]:
        """Returns the contexts that are another now."""
        changed = set()
        for key, row in rows.items():
            await pause()
            name = (key[0], key[1])
            known = self._contexts.get(name)
            context = self._context(key, name, row)
            if context != known:
                self._touched.add("contexts")
                _put(self._contexts, name, context)
                changed.add(name)
        return changed

    def _context(self, key: Key, name: ContextKey, row: Row | None) -> Context | None:
        self._store("contexts", key, row)
        if row is None:
            return None
        try:
            return context_from_row(row)
        except UNREADABLE as error:
            known = self._contexts.get(name) or self._before.contexts.get(name)
            _say_unreadable("context", name[1], error, known=known is not None)
            self._pass_over("contexts", key, f"context {name[1]}")
            return known

    # --- subscriptions

    async def _apply_subscriptions(
        self, rows: Mapping[Key, Row | None], moved: set[str], pause: Pauses
    ) -> None:
        changed: dict[str, dict[Key, Subscription | None]] = defaultdict(dict)
        contexts = set()
        for key, row in rows.items():
            await pause()
            known = self._subscriptions.get(key)
            new = self._subscription(key, row)
            if new == known:
                continue
            contexts.add((key[0], key[1]))
            _put(self._subscriptions, key, new)
            for one, count in ((known, -1), (new, 1)):
                if one is None:
                    continue
                self._given[one.priority] += count
                self._want(one, there=one is new)
                for tool_id in self._reached(one):
                    changed[tool_id][key] = one if one is new else None
        for tool_id in changed.keys() | moved:
            await pause()
            self._set_by_tool(tool_id, None if tool_id in moved else changed[tool_id])
        for name in contexts:
            await pause()
            self._set_priorities(name)

    def _subscription(self, key: Key, row: Row | None) -> Subscription | None:
        self._store("subscriptions", key, row)
        name = (key[0], key[1])
        if self._unused.pop(key, None) is not None:
            self._touched.add("unused")
        if row is None:
            self._of_context[name].discard(key)
            if not self._of_context[name]:
                del self._of_context[name]
            return None
        self._of_context[name].add(key)
        # rows on the disk may be of the release before
        if off := row.get("switched_off"):
            self._not_used(key, off)
            return None
        context = self._contexts.get(name)
        if context is None:
            return None
        try:
            return subscription_from_row(row, context)
        except UNREADABLE as error:
            logger.error("subscription %s of context %s cannot be used: %s", key[2], key[1], error)
            self._pass_over("subscriptions", key, f"subscription {key[2]} of context {key[1]}")
            self._not_used(key, str(error))
            return None

    def _want(self, subscription: Subscription, *, there: bool) -> None:
        place = (subscription.tenant, subscription.tool_id)
        _put(self._wanted[place], _name(subscription), subscription if there else None)
        if not self._wanted[place]:
            del self._wanted[place]

    def _not_used(self, key: Key, why: str) -> None:
        self._unused[key] = why
        self._touched.add("unused")

    def _reached(self, subscription: Subscription) -> Iterable[str]:
        """The tools that a subscription is of: never over to another tenant's."""
        tenant, tool_id = subscription.tenant, subscription.tool_id
        if tool_id == "*":
            return [name for name, tool in self._tools.items() if tool.tenant == tenant]
        tool = self._tools.get(tool_id)
        return [tool_id] if tool and tool.tenant == tenant else []

    def _set_by_tool(self, tool_id: str, changed: Mapping[Key, Subscription | None] | None) -> None:
        """Put subscriptions in their places, or with None all that there are."""
        known = self._by_tool.get(tool_id, ())
        if changed is None:
            known, changed = (), {}
            if tool := self._tools.get(tool_id):
                every = self._wanted.get((tool.tenant, "*"), {})
                changed = {**every, **self._wanted.get((tool.tenant, tool_id), {})}
        found = merged(known, changed)
        self._touched.add("by_tool")
        _put(self._by_tool, tool_id, found or None)
        urgent = any(one.priority == "critical" for one in found)
        if urgent != (tool_id in self._urgent):
            self._touched.add("urgent_tools")
            (self._urgent.add if urgent else self._urgent.discard)(tool_id)

    def _set_priorities(self, name: ContextKey) -> None:
        keys = self._of_context.get(name, ())
        found = frozenset(
            self._subscriptions[key].priority for key in keys if key in self._subscriptions
        )
        if found != self._priorities.get(name, frozenset()):
            self._touched.add("priorities")
            _put(self._priorities, name, found or None)

    # --- templates, keys, schemas

    async def _apply_templates(self, rows: Mapping[Key, Row | None], pause: Pauses) -> None:
        for key, row in rows.items():
            await pause()
            self._store("templates", key, row)
            _put(self._templates[key[0]], key, self._template(key, row))
        for tenant in {key[0] for key in rows}:
            await pause()
            books: dict[str, list[Template]] = defaultdict(list)
            for _, (provider, template) in sorted(self._templates[tenant].items()):
                books[provider].append(template)
            self._touched.add("books")
            _put(self._books, tenant, TemplateBook(books) if books else None)

    def _template(self, key: Key, row: Row | None) -> tuple[str, Template] | None:
        if row is None:
            return None
        try:
            return row["provider"], template_from_row(row)
        except UNREADABLE as error:
            self._pass_over("templates", key, f"template {key[1]}")
            logger.error("template %s of tenant %s cannot be used: %s", key[1], key[0], error)
            return None

    async def _apply_keys(self, rows: Mapping[Key, Row | None], pause: Pauses) -> None:
        for key, row in rows.items():
            await pause()
            earlier = self._store("keys", key, row)
            if earlier is not None:
                self._keys.pop(bytes(earlier["hash"]), None)
                self._keys.pop(bytes.fromhex(earlier.get("previous_hash") or ""), None)
        # two rows may have changed their hashes for each other's
        for key, row in rows.items():
            await pause()
            self._touched.add("keys")
            if row is None:
                continue
            try:
                self._keys |= keys_from_row(row)
            except UNREADABLE as error:
                self._pass_over("keys", key, f"key {key[0]}")
                logger.error("key %s cannot be used: %r", key[0], error)

    async def _apply_schemas(self, rows: Mapping[Key, Row | None], *, offline: bool) -> None:
        known = self._rows["schemas"]
        changed = dict(rows)
        # no tool's any more
        changed |= {key: None for key in (*known, *rows) if not self._subjects[key]}
        if rows:
            # one that refers to what was not there is looked at again
            failed = [key for at, key in self._failed if at == _ORDER["schemas"]]
            changed |= {key: known[key] for key in failed if key not in changed and key in known}
        if not changed:
            return
        usable = [row for row in changed.values() if row is not None]
        found = await self._understands.understood(usable, [], offline=offline)
        self._touched.add("schemas")
        for key, row in changed.items():
            name = (key[0], key[1])
            self._store("schemas", key, row)
            _put(self._schemas, name, found.get(name))
            if row is not None and name not in found:
                self._pass_over("schemas", key, f"schema {key[1]}")

    def _apply_tenants(self, rows: Mapping[Key, Row | None]) -> None:
        for key, row in rows.items():
            (name,) = key
            self._store("tenants", key, row)
            self._touched.add("tenants")
            known = self._tenants.get(name) or self._before.tenants.get(name)
            tenant = None
            try:
                tenant = tenant_from_row(row) if row is not None else None
            except UNREADABLE as error:
                # what it was before counts on: a suspended one is not let in by a bad row
                tenant = known or Tenant(name)
                _say_unreadable("tenant", name, error, known=known is not None)
                self._pass_over("tenants", key, f"tenant {name}")
            _put(self._tenants, name, tenant)

    def _apply_masking(self, rows: Mapping[Key, Row | None]) -> None:
        for key, row in rows.items():
            (name,) = key
            self._store("masking", key, row)
            self._touched.add("masking")
            known = self._masking.get(name) or self._before.masking.get(name)
            rules = None
            try:
                rules = Rules.from_dict(row["masking"]) if row is not None else None
            except UNREADABLE as error:
                # rules that nobody can read hide too much, not too little
                rules = known or HIDDEN_FROM_ALL
                logger.error(
                    "the masking rules of tenant %s cannot be read by this release: %r; %s",
                    name,
                    error,
                    "they stay as they were" if known else "every kind is masked",
                )
                self._pass_over("masking", key, f"masking rules of tenant {name}")
            _put(self._masking, name, rules)


def merged(
    known: tuple[Subscription, ...], changed: Mapping[Key, Subscription | None]
) -> tuple[Subscription, ...]:
    """``known``, in the order of their keys, with those of ``changed``; without what is None."""
    if len(changed) > PLACED:
        every = {_name(one): one for one in known}
        every |= {key: one for key, one in changed.items() if one is not None}
        gone = {key for key, one in changed.items() if one is None}
        return tuple(every[key] for key in sorted(every.keys() - gone))
    for key, one in changed.items():
        at = bisect_left(known, key, key=_name)
        there = at < len(known) and _name(known[at]) == key
        known = known[:at] + ((one,) if one else ()) + known[at + there :]
    return known


def _name(subscription: Subscription) -> Key:
    return (subscription.tenant, subscription.context_id, subscription.name)


def _put(into: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key; with None delete it."""
    if value is None:
        into.pop(key, None)
    else:
        into[key] = value


def _say_unreadable(what: str, name: str, error: Exception, *, known: bool) -> None:
    then = "it stays as it was last known" if known else "it is left out"
    logger.error("%s %s cannot be read by this release: %r; %s", what, name, error, then)
