"""In which order Redis is told, what may kill a worker is looked into, and others go on."""

from typing import Any

from hookstream.app.errors import FencedError
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.deaths import ALONE, BESIDE, Deaths, Trials
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.suspects import Suspects


class Told:
    """What is said to Redis, among what else happens."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.error: Exception | None = None

    async def call(self, script: str, _: Any, arguments: list[Any]) -> None:
        if self.error:
            raise self.error
        self.log.append(f"{script}: {arguments[2]}")

    def suspects(self, number: int, trials: Trials, **deaths: tuple[int, int]) -> Suspects:
        named = Deaths({name.strip("_").replace("_", "-"): each for name, each in deaths.items()})
        scripts: Any = self
        return Suspects(scripts, Partition(number, 1, "n"), "events", trials, named)

    def decode(self, entry: Entry) -> None:
        self.log.append(f"decoded {entry.entry_id}")


def entry(entry_id: str) -> Entry:
    return Entry(entry_id, b"x", None)


async def test_redis_is_told_before_a_suspect_is_looked_into_and_before_others_go_on() -> None:
    told, trials = Told(), Trials()
    trials.join(lambda: told.log.append("others may go on"))
    one, other = told.suspects(0, trials, _1_0=(3, 0)), told.suspects(1, trials)
    suspect, innocent = entry("1-0"), entry("2-0")
    assert one.ask(suspect) == ALONE
    assert other.ask(innocent) is None
    await one.begin(ALONE, [suspect], told.decode)
    assert told.log == ["in_hand: alone 1-0", "decoded 1-0"]
    assert one.over([suspect], committed=True)
    await one.tell_over()
    assert told.log[2:] == ["in_hand: -", "others may go on"]
    # told once
    assert not one.over([suspect], committed=True)
    one.ended()
    assert other.ask(innocent) == ""


async def test_a_batch_that_nobody_suspects_costs_nothing() -> None:
    told, trials = Told(), Trials()
    one = told.suspects(0, trials, _9_0=(1, 0))
    assert one.ask(entry("1-0")) == ""
    await one.begin("", [entry("1-0")], told.decode)
    assert not one.over([entry("1-0")], committed=False)
    assert told.log == []


async def test_what_waited_is_told_of_for_it_is_not_pending() -> None:
    told, trials = Told(), Trials()
    one = told.suspects(0, trials)
    waited = Entry("1-0", b"x", None, failed_event_id="f1", listed="key")
    assert one.ask(waited) == BESIDE
    await one.begin(BESIDE, [waited], told.decode)
    assert told.log == ["in_hand: beside f1"]


async def test_what_is_tried_and_fails_stays_counted() -> None:
    told, trials = Told(), Trials()
    one = told.suspects(0, trials, _1_0=(3, 0))
    assert one.ask(entry("1-0")) == ALONE
    await one.begin(ALONE, [entry("1-0")], told.decode)
    assert one.over([entry("1-0")], committed=False)
    await one.tell_over()
    assert told.log[-1] == "in_hand: "
    assert one.most(entry("1-0")) == 1


async def test_that_a_batch_is_over_need_not_be_heard() -> None:
    told, trials = Told(), Trials()
    one, other = told.suspects(0, trials, _1_0=(3, 0)), told.suspects(1, trials)
    assert one.ask(entry("1-0")) == ALONE
    await one.begin(ALONE, [entry("1-0")], told.decode)
    told.error = FencedError("another has it")
    assert one.over([entry("1-0")], committed=True)
    await one.tell_over()
    one.ended()
    assert other.ask(entry("2-0")) == ""


def test_what_is_pending_no_more_is_forgotten_but_not_what_waits_elsewhere() -> None:
    told, trials = Told(), Trials()
    one = told.suspects(0, trials, _1_0=(2, 0), _2_0=(2, 0), f1=(2, 0))
    assert not one.keep([entry("2-0")])
    assert [one.most(entry(name)) for name in ("1-0", "2-0")] == [None, 32]
    assert not one.keep([])
    assert one.any()
    gone = told.suspects(0, trials, _1_0=(2, 0))
    assert gone.keep([])
    assert not gone.any()
    assert not gone.keep([])
