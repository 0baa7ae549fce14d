"""Deferral: nothing passes what it must not pass, and nothing waits without need."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.feeds.priority_queues import MAX_ALONG, Sorter
from hookstream.app.feeds.waiting import MAX_REMEMBERED, Deferred, Waiting
from hookstream.app.priority import DEFERRABLE

PRESSED = 0
#: Number, priority, context, what it is about.
Item = tuple[int, str, str, tuple[str, ...]]


def streams() -> dict[str, Deferred]:
    return {priority: Deferred() for priority in DEFERRABLE}


def test_without_pressure_everything_goes_at_once() -> None:
    sorter = Sorter(streams(), None, most_urgent=None)
    assert [sorter.place(p, "t/c", ()) for p in ("critical", "low")] == [None, None]


def test_under_pressure_only_what_is_less_urgent_waits() -> None:
    sorter = Sorter(streams(), None, most_urgent=PRESSED)
    assert sorter.place("critical", "t/c", ()) is None
    assert sorter.place("low", "t/c", ()) == "low"
    # nobody is more urgent than high here: it has nothing to wait for
    assert Sorter(streams(), None, most_urgent=1).place("high", "t/c", ()) is None


def test_critical_waits_behind_what_is_about_the_same_thing() -> None:
    waiting = streams()
    waiting["low"].add("5-0", {"t/c": ("pr#1",)})
    sorter = Sorter(waiting, None, most_urgent=None)
    assert sorter.place("critical", "t/c", ("pr#2", "pr#1")) == "low"
    assert sorter.place("critical", "t/c", ("pr#2",)) is None
    assert sorter.place("critical", "t/other", ("pr#1",)) is None
    waiting["low"].delivered("5-0")
    assert sorter.place("critical", "t/c", ("pr#1",)) is None
    assert not waiting["low"].about


def test_one_priority_of_a_context_stays_in_order_after_the_pressure() -> None:
    waiting = streams()
    waiting["low"].add("5-0", {"t/c": ()})
    sorter = Sorter(waiting, None, most_urgent=None)
    assert sorter.place("low", "t/c", ("pr#9",)) == "low"
    assert sorter.place("low", "t/other", ("pr#9",)) is None
    assert sorter.place("normal", "t/c", ("pr#9",)) is None


def test_more_keys_than_are_remembered_hold_up_nobody_elses_critical_updates() -> None:
    waiting = streams()
    for n in range(MAX_REMEMBERED + 10):
        waiting["low"].add(f"{n + 1}-0", {"t/c": (f"commit@{n}",)})
    assert len(waiting["low"].about) <= MAX_REMEMBERED
    sorter = Sorter(waiting, None, most_urgent=PRESSED)
    assert sorter.place("critical", "t/other", ("pr#1",)) is None
    assert sorter.place("critical", "t/c", ("pr#1",)) == "low"
    waiting["low"].delivered(f"{MAX_REMEMBERED + 5}-0")
    # what could not be remembered is through: keys count again
    assert sorter.place("critical", "t/c", ("pr#1",)) is None
    assert sorter.place("critical", "t/c", (f"commit@{MAX_REMEMBERED + 9}",)) == "low"


def test_what_has_been_delivered_is_not_remembered_for_ever() -> None:
    """A stream under steady load is never empty."""
    waiting = streams()
    for n in range(MAX_REMEMBERED + 10):
        waiting["low"].add(f"{n + 1}-0", {f"t/c{n}": (f"pr#{n}",)})
        waiting["low"].delivered(f"{n}-0")
    sorter = Sorter(waiting, None, most_urgent=PRESSED)
    assert sorter.place("critical", "t/other", ("pr#1",)) is None
    assert len(waiting["low"].contexts) <= MAX_REMEMBERED


def test_what_waits_in_this_very_batch_counts() -> None:
    sorter = Sorter(streams(), None, most_urgent=PRESSED)
    sorter.put("low", {"t/c": ("pr#1",)})
    assert sorter.place("critical", "t/c", ("pr#1",)) == "low"


def test_two_things_that_wait_in_two_streams_are_both_waited_for() -> None:
    waiting = streams()
    waiting["normal"].add("5-0", {"t/c": ("ticket",)})
    waiting["low"].add("4-0", {"t/c": ("pr#1",)})
    assert Sorter(waiting, None, most_urgent=None).place("high", "t/c", ("pr#1", "ticket")) == "low"
    # out of there it is asked about the more urgent streams only: what is behind it came later
    out = Sorter(waiting, "low", most_urgent=None)
    assert out.place("high", "t/c", ("pr#1", "ticket")) == "normal"
    assert out.place("high", "t/c", ("pr#1",)) is None


def test_what_is_not_known_one_by_one_is_taken_for_anything(monkeypatch: object) -> None:
    waiting = Deferred()
    waiting.add("5-0", {"t/c": None})
    assert waiting.holds_about("t/c", ("pr#1",))
    assert not waiting.holds_about("t/other", ("pr#1",))
    waiting.forget()
    assert waiting.holds_about("t/other", ("pr#1",))
    waiting.delivered("5-0")
    assert not waiting.holds_about("t/other", None)


def entry_ids(waiting: Iterable[Waiting]) -> list[str]:
    return [each.entry_id for each in waiting]


def inheriting(waiting: dict[str, Deferred]) -> Sorter:
    return Sorter(waiting, None, most_urgent=PRESSED, inherits=0)


def test_what_is_most_urgent_takes_along_what_it_would_wait_for_and_nothing_else() -> None:
    waiting = streams()
    waiting["low"].add("1-0", {"t/c": ("pr#1",)})
    waiting["low"].add("2-0", {"t/c": ("pr#2",)})
    waiting["low"].add("3-0", {"t/other": ("pr#1",)})
    waiting["low"].add("4-0", {"t/c": ("pr#1", "push")})
    sorter = inheriting(waiting)
    assert sorter.place("critical", "t/c", ("pr#1",)) == "low"
    assert sorter.take_along("low", "critical", "t/c", ("pr#1",)) == []
    assert entry_ids(sorter.along["low"]) == ["1-0", "4-0"]
    # until that is committed it waits
    assert waiting["low"].holds_about("t/c", ("pr#1",))


def test_what_is_taken_along_keeps_its_own_order_in_all_of_its_contexts() -> None:
    waiting = streams()
    waiting["low"].add("1-0", {"t/b": ("pr#2",)})
    waiting["low"].add("2-0", {"t/a": ("pr#9",)})
    waiting["low"].add("3-0", {"t/a": ("pr#1",), "t/b": ("pr#2",)})
    # behind the last one that has to go
    waiting["low"].add("4-0", {"t/b": ("pr#2",)})
    sorter = inheriting(waiting)
    assert sorter.take_along("low", "critical", "t/a", ("pr#1",)) == []
    assert entry_ids(sorter.along["low"]) == ["1-0", "3-0"]


def test_what_was_put_aside_in_the_same_batch_goes_along_too() -> None:
    waiting = streams()
    waiting["low"].add("7-0", {"t/c": ("pr#2",)})
    sorter = inheriting(waiting)
    sorter.put("low", {"t/c": ("pr#3",)})
    sorter.put("low", {"t/c": ("pr#1", "pr#2")})
    put = sorter.take_along("low", "critical", "t/c", ("pr#1",))
    assert put is not None
    assert entry_ids(put) == ["2-0"]
    assert entry_ids(sorter.along["low"]) == ["7-0"]
    assert sorter.place("critical", "t/c", ("pr#3",)) == "low"


def test_others_than_the_most_urgent_take_nothing_along() -> None:
    waiting = streams()
    waiting["low"].add("1-0", {"t/c": ("pr#1",)})
    assert inheriting(waiting).take_along("low", "high", "t/c", ("pr#1",)) is None
    plain = Sorter(waiting, None, most_urgent=PRESSED)
    assert plain.take_along("low", "critical", "t/c", ("pr#1",)) is None


def test_where_two_streams_have_a_part_in_it_it_waits() -> None:
    waiting = streams()
    waiting["normal"].add("1-0", {"t/c": ("ticket",)})
    waiting["low"].add("2-0", {"t/c": ("pr#1", "pr#2")})
    sorter = inheriting(waiting)
    assert sorter.take_along("low", "critical", "t/c", ("pr#1", "ticket")) is None
    # nor is what it would take along to pass anything
    waiting["normal"].add("3-0", {"t/c": ("pr#2",)})
    assert sorter.take_along("low", "critical", "t/c", ("pr#1",)) is None
    assert not sorter.along


def test_what_is_not_known_one_by_one_is_waited_for() -> None:
    waiting = streams()
    waiting["low"].add("1-0", {"t/c": None})
    waiting["low"].add("2-0", {"t/a": ("pr#1",), "t/c": ("pr#1",)})
    sorter = inheriting(waiting)
    assert sorter.take_along("low", "critical", "t/c", ("pr#7",)) is None
    assert sorter.take_along("low", "critical", "t/a", ("pr#1",)) is None
    assert sorter.take_along("low", "critical", "t/a", None) is None
    waiting["low"].delivered("1-0")
    assert sorter.take_along("low", "critical", "t/a", ("pr#1",)) == []


def test_a_batch_takes_so_many_along_and_no_more() -> None:
    waiting = streams()
    for n in range(MAX_ALONG):
        waiting["low"].add(f"{n + 1}-0", {"t/c": ("pr#1",)})
    waiting["low"].add("900-0", {"t/c": ("pr#2",)})
    sorter = inheriting(waiting)
    assert sorter.take_along("low", "critical", "t/c", ("pr#1",)) == []
    assert len(sorter.along["low"]) == MAX_ALONG
    assert sorter.take_along("low", "critical", "t/c", ("pr#2",)) is None
    # of the same no more is taken
    assert sorter.take_along("low", "critical", "t/c", ("pr#1",)) == []
    waiting["low"].add("901-0", {"t/c": ("pr#1",)})
    assert inheriting(waiting).take_along("low", "critical", "t/c", ("pr#1",)) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("critical", *DEFERRABLE)),
            st.sampled_from(("t/a", "t/b")),
            st.sets(st.sampled_from(("1", "2", "3")), max_size=2),
            st.booleans(),
        ),
        max_size=40,
    ),
    st.randoms(),
)
def test_each_thing_keeps_its_order_however_the_streams_are_served(
    updates: list[tuple[str, str, set[str], bool]], random: object
) -> None:
    """A plain model of what the deliver stage does with one partition's streams."""
    waiting = streams()
    queues: dict[str, list[tuple[int, str, str, tuple[str, ...]]]] = {p: [] for p in DEFERRABLE}
    came: list[tuple[int, str, tuple[str, ...]]] = []
    clock = 0

    def place(
        source: str | None, pressed: bool, item: tuple[int, str, str, tuple[str, ...]]
    ) -> None:
        nonlocal clock
        n, priority, name, keys = item
        sorter = Sorter(waiting, source, most_urgent=PRESSED if pressed else None)
        where = sorter.place(priority, name, keys)
        if where is None:
            came.append((n, name, keys))
            return
        clock += 1
        waiting[where].add(f"{clock}-0", {name: keys})
        queues[where].append((clock, *item))  # type: ignore[arg-type]

    def serve(source: str) -> None:
        entry: tuple = queues[source].pop(0)  # type: ignore[type-arg]
        place(source, False, entry[1:])
        waiting[source].delivered(f"{entry[0]}-0")

    for n, (priority, name, keys, pressed) in enumerate(updates):
        place(None, pressed, (n, priority, name, tuple(sorted(keys))))
        for source in DEFERRABLE:
            while queues[source] and random.random() < 0.3:  # type: ignore[attr-defined]
                serve(source)
    while any(queues.values()):
        serve(random.choice([p for p in DEFERRABLE if queues[p]]))  # type: ignore[attr-defined]
    assert sorted(n for n, _, _ in came) == list(range(len(updates)))
    for context in ("t/a", "t/b"):
        for key in "123":
            about = [n for n, name, keys in came if name == context and key in keys]
            assert about == sorted(about)
