"""What goes wrong with imports and exports is a sentence, and leaves nothing that is in the way."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from hookstream.app import embedded
from tests.integration.history.test_history import NOW, command, counts, past, run, write
from tests.support.door import Door
from tests.support.s3 import BUCKET, S3, Application
from tests.support.stack import Stack, eventually, free_port


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    server.empty()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("troubles"), **s3.environ) as stack:
        yield stack


@pytest.fixture(scope="module")
def dsn(own: Stack) -> str:
    return str(embedded.find_postgres(own.state_dir / "state"))


@pytest.fixture
async def tool(own: Stack, name: str) -> str:
    await own.put(f"/tools/{name}", {"provider": "none"})
    return name


async def imports(own: Stack, tool: str) -> list[dict[str, Any]]:
    found = (await own.get("/imports", limit="100"))["imports"]
    return [one for one in found if one["tool_id"] == tool]


async def said(stack: Stack, *arguments: str, cwd: Path, status: int) -> str:
    """What a command says on standard error, which is no traceback."""
    _, text = await run(stack, *arguments, cwd=cwd, status=status)
    assert "Traceback" not in text
    return text


async def interrupted(process: "subprocess.Popen[str]", ready: str) -> tuple[str, str]:
    """Wait until a command has said so on standard error, then press Ctrl-C; the rest of it."""
    assert process.stderr is not None
    before = ""
    while ready not in before:
        line = await asyncio.to_thread(process.stderr.readline)
        assert line, before
        before += line
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(asyncio.to_thread(process.communicate), 60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    return out, before + err


STOPPED = "stopped: the same command goes on from here\n"


async def busy(request: web.Request) -> web.StreamResponse | None:
    if request.path.endswith("/page"):
        return web.json_response({"detail": "PostgreSQL is away"}, status=503)
    return None


async def test_who_stops_while_the_server_takes_nothing_has_the_status_of_ctrl_c(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    path = str(write(tmp_path / "e.jsonl", [past(n) for n in range(3)]))
    async with Door(own.url) as door:
        door.answer = busy
        arguments = ("import", path, "--tool", tool, "--url", door.url)
        out, err = await interrupted(command(own, *arguments, cwd=tmp_path), "waiting: ")
        assert err.endswith(STOPPED)
        [shown] = await imports(own, tool)
        assert (shown["status"], shown["imported"], shown["place"]) == ("stopped", 0, {})
        assert shown["import_id"] in out

        # nobody is there any more: it cannot be noted either
        async def gone(request: web.Request) -> web.StreamResponse | None:
            if request.path == "/api/v1/imports":
                return None
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        door.answer = gone
        out, err = await interrupted(command(own, *arguments, cwd=tmp_path), "waiting: ")
        assert (out, err.endswith(STOPPED)) == ("", True)
        door.answer = None
        await run(own, *arguments, cwd=tmp_path)
    [shown] = await imports(own, tool)
    assert (shown["status"], shown["imported"]) == ("done", 3)


async def test_who_waits_for_a_pipe_can_stop(own: Stack, tool: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = command(own, "import", "pipe", "--tool", tool, cwd=tmp_path)

    async def begun() -> bool:
        return bool(await imports(own, tool))

    await eventually(begun, "it has begun")
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(asyncio.to_thread(process.communicate), 60)
    assert (process.returncode, err.endswith(STOPPED)) == (130, True)
    [shown] = await imports(own, tool)
    assert shown["status"] == "stopped"


async def test_what_cannot_be_read_at_all_is_no_import(
    own: Stack, tool: str, dsn: str, tmp_path: Path
) -> None:
    await execute(
        dsn,
        f'CREATE TABLE "secret_{tool}" (id int, created_at timestamptz, payload text)',
        f"CREATE ROLE \"r_{tool}\" LOGIN PASSWORD 'x'",
        f'CREATE TABLE "odd_{tool}" (id int, created_at bigint, payload text)',
    )
    stranger = dsn.replace("postgresql://postgres@", f"postgresql://r_{tool}:x@")
    assert stranger != dsn
    columns = "event_type=,delivery_id="
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04")
    for arguments, says in (
        ((dsn, "--table", "none_such"), 'relation "none_such" does not exist. Wanted are'),
        ((dsn, "--table", f"secret_{tool}", "--columns", "payload=x"), 'column "event_type"'),
        ((dsn, "--table", f"odd_{tool}", "--columns", columns), "has to be a timestamp"),
        ((stranger, "--table", f"secret_{tool}", "--columns", columns), "permission denied"),
        ((dsn, "--table", 'x"; DROP TABLE tools; --'), "does not exist"),
        ((dsn, "--query", "DELETE FROM tools RETURNING *"), "one SELECT as --query"),
        ((dsn, "--query", "SELECT 1; SELECT 2"), "one SELECT as --query"),
        ((f"{dsn}&port=x", "--table", "x"), "cannot be connected to"),
        ((f"postgresql://127.0.0.1:{free_port()}/x", "--table", "x"), "Connection refused"),
        (("postgresql://[", "--table", "x"), "no address of a database"),
        (("x.zip",), "is a zip archive"),
        ((f"file://{tmp_path}/none/such",), "there is nothing at file:///"),
    ):
        text = await said(own, "import", *arguments, "--tool", tool, cwd=tmp_path, status=2)
        assert says in text
        assert ":x@" not in text
    assert await imports(own, tool) == []
    assert [one.name for one in tmp_path.iterdir()] == ["x.zip"]
    assert await own.get(f"/tools/{tool}")


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def test_an_import_that_fails_on_its_way_says_why_until_it_goes_on(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    lines = [past(0, payload={"n": n, "text": os.urandom(300).hex()}, id=n) for n in range(3000)]
    path = write(tmp_path / "e.jsonl.gz", lines)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    arguments = ("import", str(path), "--tool", tool, "--rate", "0")
    text = await said(own, *arguments, cwd=tmp_path, status=2)
    assert "breaks off behind line 2," in text
    [shown] = await imports(own, tool)
    assert (shown["status"], shown["imported"]) == ("failed", 2000)
    assert shown["reason"] in text
    listed, _ = await run(own, "import", "--list", cwd=tmp_path)
    assert f"{shown['import_id']} failed: {path} breaks off" in listed
    path.write_bytes(whole)
    text = await said(own, *arguments, cwd=tmp_path, status=0)
    assert f"going on behind line 2,000 of {path}" in text
    [shown] = await imports(own, tool)
    assert (shown["status"], shown["reason"], shown["imported"]) == ("done", "", 3000)
    # one that is through is not stopped by somebody who was late
    stop = f"/api/v1/imports/{shown['import_id']}/stop"
    async with own.session() as session, session.post(stop, json={"reason": "x"}) as response:
        assert (await response.json())["status"] == "done"


async def test_a_table_is_read_to_its_end_and_rows_without_a_time_are_told(
    own: Stack, tool: str, dsn: str, tmp_path: Path
) -> None:
    table = f'"rows_{tool}"'
    await execute(
        dsn,
        f"CREATE TABLE {table} (id int, created_at timestamptz, payload text)",
        # of one time, and some have no id: places between them
        f"INSERT INTO {table} SELECT CASE WHEN n % 5 > 0 THEN n END, now() - interval '1 day', "
        "n::text FROM generate_series(1, 40) n",
        f"INSERT INTO {table} VALUES (1000, NULL, 'a'), (1001, NULL, 'b')",
    )
    arguments = ("import", dsn, "--table", f"rows_{tool}", "--columns", "event_type=,delivery_id=")
    process = command(own, *arguments, "--tool", tool, "--rate", "1", cwd=tmp_path)
    await interrupted(process, "events")
    text = await said(own, *arguments, "--tool", tool, "--rate", "5", cwd=tmp_path, status=1)
    assert "going on behind received_at " in text
    assert "id 1000: has no received_at" in text
    assert "id 1001: has no received_at" in text
    [shown] = await imports(own, tool)
    assert shown["status"] == "done"
    found = (await own.get("/events", tool=tool, limit="1000"))["events"]
    assert len(found) == 40
    # to a file each line of progress is said once, and the last one is that of the end
    progress = [line for line in text.splitlines() if " events" in line and "%" in line]
    assert progress[-1].startswith("100.0 %, ")
    assert len({line.split("/s")[0].rpartition(",")[0] for line in progress[-2:]}) == len(
        progress[-2:]
    )


async def test_what_is_no_member_is_told_and_not_lost(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    misspelt = past(0)
    misspelt["recieved_at"] = misspelt.pop("received_at")
    lines = [past(1), misspelt, past(2, playload=1), past(3, zone="x")]
    path = str(write(tmp_path / "e.jsonl", lines))
    text = await said(own, "import", path, "--tool", tool, cwd=tmp_path, status=1)
    assert "e.jsonl:2: there is no member `recieved_at`: did you mean `received_at`?" in text
    assert "e.jsonl:3: there is no member `playload`: did you mean `payload`?" in text
    assert "e.jsonl:4: there is no member `zone`: there are received_at, " in text
    assert "--restart reads all" in text
    arguments = ("import", path, "--tool", tool, "--restart", "--ignore", "zone,playload", "--json")
    out, _ = await run(own, *arguments, cwd=tmp_path, status=1)
    assert counts(json.loads(out))[:3] == (3, 0, 1)


async def test_a_file_of_the_predecessor_s_format_is_not_taken_for_ours(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    line = {
        "delivery_id": "d", "event_type": "push", "repo_name": "acme/app", "sender_name": "ada",
        "payload": {"n": 1}, "auth_context": {"tenant_id": "t"}, "created_at": NOW.isoformat(),
    }  # fmt: skip
    path = str(write(tmp_path / "old.jsonl", [{**line, "payload": {"n": n}} for n in range(3)]))
    text = await said(own, "import", path, "--tool", tool, cwd=tmp_path, status=2)
    assert f"{path}:1: `repo_name` is a member of the predecessor's format" in text
    assert "`--format predecessor`" in text
    [shown] = await imports(own, tool)
    # nothing is passed over: the right command begins at its beginning
    assert (shown["status"], shown["place"], shown["rejected"]) == ("failed", {}, 0)
    predecessor = ("import", "--format", "predecessor", "--tool", tool, "--json")
    out, _ = await run(own, *predecessor, path, cwd=tmp_path)
    assert counts(json.loads(out)) == (3, 0, 0, 0, 0, 0)
    ours = str(write(tmp_path / "ours.jsonl", [past(0)]))
    text = await said(own, *predecessor, ours, cwd=tmp_path, status=2)
    assert "leave out `--format predecessor`" in text


@pytest.mark.parametrize("rate", ["nan", "inf", "-1"])
async def test_a_rate_is_a_number(own: Stack, tool: str, tmp_path: Path, rate: str) -> None:
    path = str(write(tmp_path / "e.jsonl", [past(0)]))
    arguments = ("import", path, "--tool", tool, "--rate", rate)
    text = await said(own, *arguments, cwd=tmp_path, status=2)
    assert text == "hookstream: --rate: events a second; 0 for as fast as it goes\n"


async def test_bytes_that_are_odd_are_told_or_kept(own: Stack, tool: str, tmp_path: Path) -> None:
    at = json.dumps((NOW - timedelta(days=1)).isoformat()).encode()
    lines = {
        b'{"received_at":%s,"payload":{"n":1}}\r' % at: "",
        b'{"received_at":%s,"payload":{"n":"\xff"}}' % at: "is not UTF-8",
        b'{"received_at":%s,"payload_text":"a\\u0000b"}' % at: "",
        b'{"received_at":%s,"payload":1,"type":"a\\u0000b"}' % at: "type: at most 200 printable",
        b'{"received_at":%s,"payload":1,"id":"a\\u0000b"}' % at: "",
        b'{"received_at":"1969-12-31T00:00:00Z","payload":1}': "a time from 1970 on",
        b'{"received_at":"9999-12-31T00:00:00Z","payload":1}': "lies in the future",
        b'{"received_at":%s,"payload":{"n":' % at: "is no JSON object",
    }
    path = tmp_path / "e.jsonl"
    # the mark of some systems in front
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    arguments = ("import", str(path), "--tool", tool, "--json")
    out, text = await run(own, *arguments, cwd=tmp_path, status=1)
    assert counts(json.loads(out))[0] == list(lines.values()).count("")
    for number, says in enumerate(lines.values(), 1):
        told = [line for line in text.splitlines() if line.startswith(f"{path}:{number}: ")]
        assert len(told) == bool(says)
        assert all(says in line for line in told)


def refused(code: str) -> Any:
    def answer(environ: dict[str, Any], start: Any, inner: Application) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code></Error>".encode()
        start("403 Forbidden", [("Content-Length", str(len(body)))])
        return [body]

    return answer


@pytest.mark.parametrize("what", ["import", "export"])
async def test_a_bucket_that_cannot_be_used_is_a_sentence_with_what_it_looks_at(
    own: Stack, s3: S3, tool: str, tmp_path: Path, what: str
) -> None:
    variables = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, "

    async def says(url: str, **environ: str) -> str:
        before = own.settings
        own.settings = {**before, **environ}
        place = (url,) if what == "import" else ("--out", url)
        try:
            text = await said(own, what, *place, "--tool", tool, cwd=tmp_path, status=2)
        finally:
            own.settings = before
        assert len(text.splitlines()) == 1, text
        assert "test-secret" not in text
        return text

    there = f"s3://{BUCKET}/{tool}"
    with s3.failing(refused("SignatureDoesNotMatch")):
        text = await says(there, AWS_SECRET_ACCESS_KEY="test-secret")
    assert "cannot be listed: SignatureDoesNotMatch" in text
    assert variables in text
    assert "(set: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)" in text
    assert "NoSuchBucket" in await says("s3://no-such-bucket/x")
    nobody = f"http://127.0.0.1:{free_port()}"
    assert nobody in await says(there, AWS_ENDPOINT_URL=nobody)
    # of these the library would end in panic
    for name, value, wrong in (
        ("AWS_ENDPOINT_URL", "nonsense", "is no address of a server"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999", "is no address of a server"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret\n", "a line's end"),
        ("AWS_REGION", "eu\nwest", "a line's end"),
    ):
        text = await says(there, **{name: value})
        assert f"cannot be opened: {name} " in text
        assert wrong in text
    assert "AZURE_STORAGE_ACCOUNT_NAME" in await says("az://container/x")
    missing = await says("gs://bucket/x", GOOGLE_SERVICE_ACCOUNT=str(tmp_path / "none.json"))
    assert "(set: GOOGLE_SERVICE_ACCOUNT)" in missing
    assert await imports(own, tool) == []


async def test_an_object_is_named_by_its_address(
    own: Stack, s3: S3, tool: str, tmp_path: Path
) -> None:
    data = write(tmp_path / "e.jsonl.gz", [past(n) for n in range(3)]).read_bytes()
    s3.client().put_object(Bucket=BUCKET, Key=f"{tool}/events.jsonl.gz", Body=data)
    address = f"s3://{BUCKET}/{tool}/events.jsonl.gz"
    out, _ = await run(own, "import", address, "--tool", tool, "--json", cwd=tmp_path)
    assert json.loads(out)["imported"] == 3


async def test_a_broken_off_export_leaves_nothing_in_the_way(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    lines = [past(0, payload={"n": n, "text": os.urandom(300).hex()}, id=n) for n in range(700)]
    await run(
        own, "import", str(write(tmp_path / "e.jsonl", lines)), "--tool", tool, "--rate", "0",
        cwd=tmp_path,
    )  # fmt: skip
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "all.jsonl.gz"

    def left() -> list[str]:
        return [one.name for one in folder.iterdir()]

    export = ("export", "--tool", tool, "--out", str(out))
    none = ("export", "--tool", f"{tool}-none", "--out", str(out))
    assert "no such tool" in await said(own, *none, cwd=tmp_path, status=2)
    nobody = f"http://127.0.0.1:{free_port()}"
    text = await said(own, *export, "--url", nobody, cwd=tmp_path, status=2)
    assert "nobody answers" in text
    right, own.key = own.key, "another-key-1f0c8a77"
    try:
        assert "not known here" in await said(own, *export, cwd=tmp_path, status=2)
    finally:
        own.key = right
    # the disk is full: so is one on which files may have 16 KiB
    full = subprocess.Popen(
        ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", *own.command("--quiet", *export)],
        env=own.environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, text = await asyncio.to_thread(full.communicate)
    assert full.returncode == 2
    assert f"{out} cannot be written: File too large" in text
    assert left() == []
    async with Door(own.url) as door:
        away = (*export, "--url", door.url)

        # the server dies in the middle, and somebody gives up waiting
        async def dies(request: web.Request) -> web.StreamResponse | None:
            if len(door.calls) < 2:
                return None
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        door.answer = dies
        process = command(own, *away, cwd=tmp_path)
        _, text = await interrupted(process, "waiting: ")
        assert f"nothing is left at {out}" in text
        assert "hookstream: stopped" in text
        assert left() == []

        # it refuses in the middle
        door.calls.clear()

        async def refuses(request: web.Request) -> web.StreamResponse | None:
            if len(door.calls) < 2:
                return None
            return web.json_response({"detail": "the tool has gone"}, status=404)

        door.answer = refuses
        text = await said(own, *away, cwd=tmp_path, status=2)
        assert "the tool has gone" in text
        assert left() == []

        # killed: what is left is in nobody's way
        door.calls.clear()
        door.answer = dies
        process = command(own, *away, cwd=tmp_path)
        assert process.stderr is not None
        while "waiting: " not in (line := await asyncio.to_thread(process.stderr.readline)):
            assert line
        process.kill()
        await asyncio.to_thread(process.communicate)
        assert left() == ["all.jsonl.gz.part"]
    await run(own, *export, cwd=tmp_path)
    assert left() == ["all.jsonl.gz"]
    assert gzip.decompress(out.read_bytes()).count(b"\n") == 700
    assert "is there already" in await said(own, *export, cwd=tmp_path, status=2)


async def test_whoever_reads_no_more_of_an_export_gets_no_traceback(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    await run(
        own, "import", str(write(tmp_path / "e.jsonl", [past(n) for n in range(3)])),
        "--tool", tool, cwd=tmp_path,
    )  # fmt: skip
    process = command(own, "export", "--tool", tool, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    text = await asyncio.to_thread(process.stderr.read)
    assert await asyncio.to_thread(process.wait) == 141
    assert "Exception" not in text
    assert "Traceback" not in text


async def test_what_is_new_in_an_import_that_was_through_is_not_delivered_with_all_of_it(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "e.jsonl", [past(n) for n in range(3)])
    deliver = ("import", str(path), "--tool", tool, "--deliver")
    assert "delivers 3 events" in await said(own, *deliver, cwd=tmp_path, status=0)
    write(path, [past(n) for n in range(5)])
    for more in ((), ("--restart",)):
        text = await said(own, *deliver, *more, cwd=tmp_path, status=2)
        assert "3 events of this import came in before" in text
    [shown] = await imports(own, tool)
    assert (shown["status"], shown["imported"], shown["status_before"]) == ("done", 3, None)
    text = await said(own, *deliver, "--name", "new", cwd=tmp_path, status=0)
    assert "delivers 2 events" in text


async def test_another_file_is_refused_whatever_its_size_and_what_is_through_stays_so(
    own: Stack, tool: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "e.jsonl", [past(0)])
    arguments = ("import", str(path), "--tool", tool)
    await said(own, *arguments, cwd=tmp_path, status=0)
    # of the same length, as another day's file may be
    path.write_bytes(path.read_bytes().swapcase())
    assert "begins otherwise" in await said(own, *arguments, cwd=tmp_path, status=2)
    [shown] = await imports(own, tool)
    assert (shown["status"], shown["reason"], shown["imported"]) == ("done", "", 1)


async def test_a_table_is_not_gone_on_with_by_other_columns(
    own: Stack, tool: str, dsn: str, tmp_path: Path
) -> None:
    await execute(
        dsn,
        f'CREATE TABLE "{tool}" (at timestamptz, n int, a jsonb, b jsonb)',
        f"""INSERT INTO "{tool}" VALUES (now(), 1, '{{"a": 1}}', '{{"b": 1}}')""",
    )

    async def read(columns: str, status: int, *more: str) -> str:
        naming = f"received_at=at,id=n,event_type=,delivery_id=,payload={columns}"
        arguments = ("import", dsn, "--tool", tool, "--table", tool, "--columns", naming)
        return await said(own, *arguments, *more, cwd=tmp_path, status=status)

    await read("a", 0)
    await read("a", 0)
    assert "was read by other columns" in await read("b", 2)
    await read("b", 0, "--restart")
    [shown] = await imports(own, tool)
    # the same rows are the same events
    assert (shown["imported"], shown["known"], shown["status"]) == (1, 1, "done")
