"""The console's page for erasures, legal holds and retention policies, in a real browser."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pytest

from hookstream.app import embedded
from tests.integration.sqs.test_migration import heard
from tests.support.browser import Page, browser, find_chromium
from tests.support.stack import Stack, eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install `chromium`"),
]

#: What a role is offered, of all that the page has: lists, and what changes something.
LISTS = ("#erasures", "#holds", "#policies")
FORMS = ("#begin", "#place", "#add-policy", ".release", ".proof", ".delete")
OFFERED = {
    "owner": {*LISTS, *FORMS},
    "operator": {*LISTS, "#place", ".proof"},
    "auditor": {*LISTS, ".proof"},
    "developer": {"#policies"},
}


@pytest.fixture(scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    """A page of a browser that the tests of this file share."""
    async with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


async def open_as(page: Page, stack: Stack, key: str, path: str = "/console/erasures") -> None:
    """The page, for who has a key; nothing that went wrong before."""
    page.troubles.clear()
    page.asked.clear()
    await page.open(f"{stack.url}{path}")
    await page.type("#key", key)
    await page.click("#open button")

    async def known() -> bool:
        return " of default." in await page.text("#state")

    await eventually(known, "the page knows who asks")


async def says(page: Page, text: str) -> None:
    async def said() -> bool:
        return text in await page.text("#state")

    await eventually(said, f"the page says {text!r}")


async def begun(page: Page) -> str:
    """The id of the erasure that the page says it has begun."""
    return (await page.text("#state")).rpartition(": ")[2]


async def is_done(page: Page, erasure_id: str) -> None:
    row = f"tr[data-erasure='{erasure_id}'][data-status='done']"

    async def done() -> bool:
        return await page.sees(row)

    await eventually(done, "the list shows that it is done", 60)


async def planted(stack: Stack, name: str, mail: str) -> str:
    """An event that names somebody, in its feed and in the event log."""
    await stack.context(name, {"provider": "none"})
    event = await stack.hook(name, json.dumps({"mail": mail}).encode())
    await stack.updates(name, 1)

    async def recorded() -> bool:
        return bool((await stack.get("/events", tool=name))["events"])

    await eventually(recorded, "it is recorded")
    return event


async def test_a_person_is_counted_and_then_erased(page: Page, stack: Stack, name: str) -> None:
    mail = f"{name}@example.net"
    event = await planted(stack, name, mail)
    await open_as(page, stack, stack.key)
    # only counted, unless somebody says otherwise: nobody is asked
    await page.type("#values", f"{mail}\n")
    await page.type("#reason", f"ticket of {name}")
    await page.click("#begin button")
    await says(page, "It is being counted")
    await is_done(page, counted := await begun(page))
    assert await page.texts("#places tr"), await page.text("#receipt")
    assert (await stack.get(f"/events/{event}"))["payload"] == {"mail": mail}

    await page.type("#values", mail)
    await page.click("#dry-run")
    await page.click("#begin button")
    assert await page.sees("#sure")
    assert "Erase whatever names a person?" in await page.text("#sure")
    assert "It cannot be undone." in await page.text("#sure")
    before = list(page.asked)
    await page.click("#sure-no")
    assert not await page.sees("#sure")
    await page.click("#begin button")
    await page.press("Escape")
    assert not await page.sees("#sure")
    assert not [one for one in page.asked[len(before) :] if one.startswith("POST")]
    assert (await stack.get("/erasures"))["erasures"][0]["erasure_id"] == counted

    await page.click("#begin button")
    await page.click("#sure-yes")
    await says(page, "The erasure has begun")
    # whose it was stays in no field and was in no address
    assert await page.run("document.querySelector('#values').value") == ""
    await is_done(page, await begun(page))
    assert not [one for one in page.asked if name in one]
    gone = await stack.get(f"/events/{event}")
    assert (gone["status"], "payload" in gone) == ("erased", False)
    # the receipt, place by place, as the API has it
    shown = await stack.get(f"/erasures/{await begun(page)}")
    rows = await page.texts("#places tr td:first-child")
    assert [row.split("\n")[0] for row in rows] == [one["place"] for one in shown["places"]]
    assert {"events stream", "feeds"} <= {one["place"] for one in shown["places"]}
    numbers = await page.texts("#places td.number")
    assert numbers == [
        str(one[field]) for one in shown["places"] for field in ("found", "erased", "left")
    ]
    bars = await page.run(
        "[...document.querySelectorAll('#places svg')].map((e) => e.getAttribute('aria-label'))"
    )
    assert bars == [
        f"{one['erased']} of {one['found']} erased, {one['left']} left" for one in shown["places"]
    ]
    assert page.troubles == []


@pytest.mark.parametrize("kind", ["events", "tool", "context"])
async def test_what_is_named_is_erased(page: Page, stack: Stack, name: str, kind: str) -> None:
    event = await planted(stack, name, "jim@example.net")
    await open_as(page, stack, stack.key)
    await page.choose("#kind", kind)
    await page.type("#values", event if kind == "events" else name)
    await page.click("#dry-run")
    await page.click("#begin button")
    assert "the context itself stays" in await page.text("#sure") or kind != "context"
    await page.click("#sure-yes")
    await says(page, "The erasure has begun")
    await is_done(page, await begun(page))
    shown = await stack.get(f"/erasures/{await begun(page)}")
    assert shown["kind"] == kind.removesuffix("s")
    [update] = (await stack.get(f"/contexts/{name}/updates"))["updates"]
    assert update["kind"] == "erased"
    assert ((await stack.get(f"/events/{event}"))["status"] == "erased") == (kind != "context")
    assert page.troubles == []


async def test_what_the_api_refuses_is_said(page: Page, stack: Stack) -> None:
    await open_as(page, stack, stack.key)
    await page.type("#values", "abc")
    await page.click("#begin button")
    await says(page, "fewer than 5 characters")
    await page.type("#key", "nobody-s-key")
    await page.click("#open button")
    await says(page, "This key is not known here.")
    assert not [one for one in (*LISTS, *FORMS) if await page.sees(one)]


async def test_a_hold_is_placed_and_released_with_a_reason(
    page: Page, stack: Stack, name: str
) -> None:
    await open_as(page, stack, stack.key)
    await page.type("#hold-tool", name)
    await page.type("#hold-reason", "a lawsuit")
    await page.click("#place button")
    assert f"tool {name} is kept" in await page.text("#sure")
    await page.click("#sure-yes")
    await says(page, " is placed.")
    [hold] = [one for one in (await stack.get("/holds"))["holds"] if one["tool"] == name]
    row = f"tr[data-hold='{hold['hold_id']}']"
    assert "in force" in await page.text(row)
    await page.click(f"{row} .release")
    await page.click("#sure-yes")
    # without a reason the browser keeps it
    assert await page.sees("#sure")
    await page.type("#sure-reason", "settled")
    await page.click("#sure-yes")
    await says(page, " is released.")
    assert "settled" in await page.text(row)
    assert not await page.sees(f"{row} .release")
    found = await stack.get(f"/holds/{hold['hold_id']}")
    assert (found["reason"], found["release_reason"]) == ("a lawsuit", "settled")
    assert page.troubles == []


async def test_a_policy_is_added_proven_and_deleted(page: Page, stack: Stack, name: str) -> None:
    await open_as(page, stack, stack.key)
    for field, text in (("id", name), ("after", "30d"), ("tool", name), ("reason", "PCI")):
        await page.type(f"#policy-{field}", text)
    await page.choose("#policy-data", "payment")
    await page.click("#add-policy button")
    assert "are deleted for good once they are 30d old" in await page.text("#sure")
    await page.click("#sure-yes")
    await says(page, f"The policy {name} is in force.")
    found = await stack.get(f"/retention-policies/{name}")
    assert (found["tool"], found["data_class"], found["reason"]) == (name, "payment", "PCI")
    row = f"tr[data-policy='{name}']"
    assert "720h" in await page.text(row)
    await page.click(f"{row} .proof")

    async def proven() -> bool:
        return await page.sees("#proof") and "nothing so far" in await page.text("#proof-of")

    await eventually(proven, "its proof is shown")
    await page.click(f"{row} .delete")
    await page.click("#sure-yes")
    await says(page, f"The policy {name} is deleted.")
    assert not await page.sees(row)
    assert page.troubles == []


@pytest.mark.parametrize("role", OFFERED)
async def test_a_role_is_offered_what_it_may(
    page: Page, stack: Stack, name: str, role: str
) -> None:
    hold = await call(stack, "POST", "/holds", {"tool": name, "reason": "kept"})
    await stack.put(f"/retention-policies/{name}", {"delete_after": "30d", "tool": name})
    key = (await call(stack, "POST", "/api-keys", {"role": role, "name": name}))["key"]

    async def open_with_it() -> bool:
        await page.open(f"{stack.url}/console/erasures")
        await page.type("#key", key)
        await page.click("#open button")

        async def answered() -> bool:
            text = await page.text("#state")
            return "of default" in text or "not known" in text

        await eventually(answered, "the page says whose key it is")
        return f"{role} of default" in await page.text("#state")

    await eventually(open_with_it, "the key is known")
    page.troubles.clear()

    async def listed() -> bool:
        return await page.sees(f"tr[data-policy='{name}']")

    await eventually(listed, "policies are shown")
    seen = {one for one in LISTS if await page.sees(f"section:has({one})")}
    assert seen | {one for one in FORMS if await page.sees(one)} == OFFERED[role]
    assert page.troubles == []
    await call(stack, "DELETE", f"/retention-policies/{name}")
    await call(stack, "POST", f"/holds/{hold['hold_id']}/release", {"reason": "over"})


async def test_old_workers_and_hookstream_are_seen_side_by_side(
    page: Page, stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    ids = [await stack.hook(name, json.dumps({"n": n}).encode()) for n in range(3)]
    await stack.updates(name, 3)
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    forward = json.dumps({"sqs": {"queue_url": "http://127.0.0.1:9/1/q", "region": "us-east-1"}})
    await connection.execute("UPDATE tools SET forward = $2 WHERE tool_id = $1", name, forward)
    await connection.close()
    at = datetime.now(UTC).isoformat()
    results: list[dict[str, Any]] = [
        {"event_id": ids[0], "finished_at": at, "contexts": [name]},
        {"event_id": ids[1], "finished_at": at, "contexts": [name, "elsewhere"]},
        {"event_id": ids[2], "finished_at": at, "error": "Timeout"},
    ]

    async def taken() -> bool:
        path = f"/api/v1/tools/{name}/migration/results"
        async with (
            aiohttp.ClientSession(stack.url, headers=stack.headers) as session,
            session.post(path, json={"results": results}) as response,
        ):
            return response.status == 200

    await eventually(taken, "the process knows of the queue")
    await open_as(page, stack, stack.key, "/console/migration")
    await page.type("#tool", name)

    async def compared() -> bool:
        await page.click("#compare button")

        async def over() -> bool:
            return await page.text("#state") == "Compared."

        await eventually(over, "it is compared")
        return "3 events" in await page.text("#says") and len(await page.texts("#causes li")) == 2

    await eventually(compared, "all of it is recorded and compared")
    said = sorted(await page.texts("#causes summary"))
    assert said == [
        "Only Hookstream, 1: error Timeout",
        "Other contexts, 1: subscriptions here are narrower",
    ]
    await page.click("details[data-kind='contexts'] summary")
    assert f"{ids[1]} missing here: elsewhere" in await page.text("details[data-kind='contexts']")
    labels = await page.run(
        "[...document.querySelectorAll('#by-hour svg')].map((e) => e.getAttribute('aria-label'))"
    )
    # an hour may have ended meanwhile
    assert sum(int(label.partition(" ")[0]) for label in labels) == 3
    assert page.troubles == []


async def test_how_far_a_tool_has_moved_is_seen(page: Page, stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none", "ordering": {"by": "tool"}})
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    forward = json.dumps({"sqs": {"queue_url": "http://127.0.0.1:9/1/q", "region": "us-east-1"}})
    await connection.execute("UPDATE tools SET forward = $2 WHERE tool_id = $1", name, forward)
    await connection.close()
    path = f"/tools/{name}/migration"
    for mode in ({"mode": "sqs"}, {"mode": "split", "percent": 30}, {"mode": "redis"}):
        await call(stack, "PUT", path, mode)
        await heard(stack)
        await stack.hook(name, json.dumps({"mode": mode}).encode())

    async def waits() -> bool:
        shown = await stack.get(path)
        return bool(shown["waiting_keys"] and shown["waiting_copies"])

    await eventually(waits, "its key waits for old workers")
    await open_as(page, stack, stack.key, "/console/migration")
    assert not await page.sees("#moved")
    await page.type("#tool", name)
    await page.press("Tab")

    async def shown() -> bool:
        return await page.sees("#moved")

    await eventually(shown, "it is shown as soon as the tool is said")
    assert f"{name}, mode redis: everything works here" in await page.text("#mode")
    assert (await page.text("#waits")).startswith("1 ordering keys wait for old workers, ")
    [key] = await page.texts("#waiting tr")
    assert "not in their queue yet" in key
    modes = [row.split("\t")[1] for row in await page.texts("#history tr")]
    assert modes == ["redis", "split 30 %", "sqs"]
    labels = await page.run(
        "[...document.querySelectorAll('#history svg')].map((e) => e.getAttribute('aria-label'))"
    )
    assert labels[1] == "Hookstream 30 %, old workers 70 %"
    # what stands between backticks elsewhere is a name here
    await page.click("#compare button")
    await says(page, "Compared.")
    assert "`" not in await page.text("body")
    assert page.troubles == []


async def call(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    async with (
        aiohttp.ClientSession(stack.url, headers=stack.headers) as session,
        session.request(method, f"/api/v1{path}", json=body) as response,
    ):
        text = await response.text()
        assert response.status < 300, text
        return json.loads(text) if text else None
