"""How far an erasure is, and how long it takes still: by what was looked at, and how fast."""

from hookstream.app.commands.erase import duration, how_far
from hookstream.app.erasure.progress import Looked, StepProgress, Summary, summed_up

AT = 1_700_000_000_000


def after(of: int, looked: int, seconds: float, begun: float = 0) -> Looked:
    """A step that began ``begun`` seconds after the first one, and took ``seconds`` so far."""
    first = AT + int(begun * 1000)
    return Looked(of, looked, first, first + int(seconds * 1000))


def test_nothing_is_said_before_anything_was_looked_at() -> None:
    assert summed_up({"events:0": Looked(100), "archive": Looked(50)}) == Summary(0, 150, None)
    assert summed_up({"events:0": after(100, 0, 5)}) == Summary(0, 100, None)
    assert summed_up({}) == Summary(0, 0, None)


def test_each_kind_goes_on_as_fast_as_it_went() -> None:
    archive = after(90, 30, 3, 5)
    steps = {"events:0": after(100, 100, 1), "events:1": Looked(300), "archive": archive}
    # 100 a second and 10 a second
    assert summed_up(steps) == Summary(130, 490, 3.0 + 6.0)


def test_what_has_not_begun_is_as_fast_as_all_of_the_rest() -> None:
    steps = {"events:0": after(100, 100, 2), "derived:0": Looked(500)}
    assert summed_up(steps) == Summary(100, 600, 10.0)


def test_workers_beside_one_another_are_as_fast_together() -> None:
    steps = {f"events:{n}": after(100, 100, 1) for n in range(4)} | {"events:4": Looked(400)}
    assert summed_up(steps) == Summary(400, 800, 1.0)


def test_more_than_there_was_at_first_is_no_harm() -> None:
    assert summed_up({"events:0": after(100, 150, 1)}) == Summary(150, 150, 0.0)


async def test_a_step_says_how_far_it_is_and_what_there_was() -> None:
    said: list[Looked] = []

    async def write(looked: Looked) -> None:
        said.append(looked)

    step = StepProgress(write, 1000)
    await step.saw(200)
    # not with each page
    await step.saw(200)
    await step.finish()
    assert [(one.of, one.looked) for one in said] == [(1000, 200), (400, 400)]
    assert all(one.begun_ms <= one.noted_ms for one in said)


def test_a_person_is_told_in_one_line() -> None:
    shown = {"steps_done": 3, "steps": 70, "looked_at": 1200, "to_look_at": 90_000}
    line = how_far({**shown, "seconds_left": 150.0, "detail": "a spool is looked through"})
    assert line == (
        "3 of 70 steps, 1,200 of 90,000 looked through, about 3 min left; a spool is looked through"
    )
    unknown = {**shown, "looked_at": None, "to_look_at": None, "seconds_left": None, "detail": ""}
    assert how_far(unknown) == "3 of 70 steps"
    assert [duration(one) for one in (0.2, 119, 121, 9000)] == ["1 s", "119 s", "3 min", "2.5 h"]
