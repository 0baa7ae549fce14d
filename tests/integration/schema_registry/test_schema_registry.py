"""The schema registry as Confluent's own client sees it, unchanged, on the whole system."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    SchemaRegistryError,
    ServerConfig,
)
from confluent_kafka.serialization import MessageField, SerializationContext

from hookstream.proto.pipeline_pb2 import TableChange
from tests.support import ROOT
from tests.support.stack import Stack

ORDER = 'syntax = "proto3"; message Order { int32 id = 1; %s }'


def proto(fields: str = "") -> Schema:
    return Schema(ORDER % fields, "PROTOBUF")


def of(name: str, fields: str = "") -> Schema:
    """A schema that no other test has."""
    return Schema(f"{ORDER % fields} message {name} {{}}", "PROTOBUF")


def document(properties: dict[str, Any], **more: Any) -> Schema:
    return Schema(json.dumps({"type": "object", "properties": properties, **more}), "JSON")


@pytest.fixture(params=["basic", "bearer"])
def client(stack: Stack, request: pytest.FixtureRequest) -> SchemaRegistryClient:
    return connect(stack, request.param, stack.key)


def connect(stack: Stack, how: str, key: str) -> SchemaRegistryClient:
    """A new client: it keeps what it has read."""
    conf: dict[str, Any] = {"url": f"{stack.url}/registry", "max.retries": 0}
    if how == "basic":
        conf["basic.auth.user.info"] = f"anybody:{key}"
    else:
        conf |= {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": key,
            "bearer.auth.logical.cluster": "any",
            "bearer.auth.identity.pool.id": "any",
        }
    return SchemaRegistryClient(conf)


def refused(status: int, code: int) -> Any:
    """Expect a refusal with Confluent's code for it."""
    return pytest.raises(
        SchemaRegistryError, check=lambda e: (e.http_status_code, e.error_code) == (status, code)
    )


def test_client_registers_reads_and_looks_up(client: SchemaRegistryClient, name: str) -> None:
    first, second = of(name), of(name, "string title = 2;")
    one = client.register_schema(name, first)
    two = client.register_schema(name, second)
    assert one != two
    # what says the same is the same, whatever its spacing, and under another subject too
    spaced = Schema(first.schema_str.replace(";", " ;\n"), "PROTOBUF")
    assert client.register_schema(name, spaced) == one
    assert client.register_schema(f"{name}/other value", first) == one
    assert client.get_versions(name) == [1, 2]
    assert client.get_schema(two).schema_str == second.schema_str
    latest = client.get_latest_version(name)
    assert (latest.version, latest.schema_id, latest.schema.schema_type) == (2, two, "PROTOBUF")
    assert client.get_version(name, 1).schema.schema_str == first.schema_str
    assert client.lookup_schema(name, spaced).version == 1
    assert {name, f"{name}/other value"} <= set(client.get_subjects())
    assert client.get_schema_types() == ["JSON", "PROTOBUF"]
    found = [(use.subject, use.version) for use in client.get_schema_versions(one)]
    assert found == [(name, 1), (f"{name}/other value", 1)]
    assert client.get_subjects_by_schema_id(two) == [name]


def test_incompatible_schema_is_refused_with_409_and_the_rule(
    client: SchemaRegistryClient, name: str
) -> None:
    client.register_schema(name, proto())
    changed = Schema(ORDER.replace("int32", "string") % "", "PROTOBUF")
    with refused(409, 409) as refusal:
        client.register_schema(name, changed)
    assert "BACKWARD" in refusal.value.error_message
    assert "FIELD_TYPE_CHANGED at Order.id" in refusal.value.error_message
    assert not client.test_compatibility(name, changed)
    assert client.test_compatibility(name, proto("string title = 2;"))
    assert not client.test_compatibility_all_versions(name, changed)
    with refused(409, 409):
        client.register_schema(name, document({}))
    client.set_compatibility(name, "NONE")
    client.register_schema(name, changed)
    client.set_config(name, ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE))
    with refused(409, 409) as refusal:
        client.register_schema(name, proto("bool third = 3;"))
    assert "version 2" in refusal.value.error_message


def test_every_mode_asks_for_what_it_says(client: SchemaRegistryClient, name: str) -> None:
    old = document({"a": {"type": "integer"}})
    wider, narrower = document({"a": {"type": "number"}}), document({"a": {"maximum": 3}})
    allowed = {
        "BACKWARD": (True, False),
        "FORWARD": (False, False),
        "FULL": (False, False),
        "NONE": (True, True),
    }
    allowed |= {f"{mode}_TRANSITIVE": allowed[mode] for mode in ("BACKWARD", "FORWARD", "FULL")}
    client.register_schema(name, old)
    for mode, verdicts in allowed.items():
        client.set_compatibility(name, mode)
        assert client.get_compatibility(name) == mode
        found = tuple(client.test_compatibility(name, new) for new in (wider, narrower))
        assert found == verdicts, mode
    client.set_compatibility(name, "FORWARD")
    required = document({"a": {"type": "integer"}}, required=["a"])
    assert client.test_compatibility(name, required)


def test_errors_have_the_codes_that_confluent_documents(
    client: SchemaRegistryClient, name: str
) -> None:
    nobody = f"{name}-nobody"
    client.register_schema(name, proto())
    for status, code, call in (
        (404, 40401, lambda: client.get_versions(nobody)),
        (404, 40401, lambda: client.get_latest_version(nobody)),
        (404, 40401, lambda: client.lookup_schema(nobody, proto())),
        (404, 40401, lambda: client.delete_subject(nobody)),
        (404, 40402, lambda: client.get_version(name, 7)),
        (404, 40402, lambda: client.delete_version(name, 7)),
        (404, 40403, lambda: client.get_schema(2_000_000_000)),
        (404, 40403, lambda: client.lookup_schema(name, proto("bool b = 9;"))),
        (404, 40405, lambda: client.delete_subject(name, permanent=True)),
        (404, 40408, lambda: client.get_compatibility(nobody)),
        (422, 42201, lambda: client.register_schema(name, Schema("nonsense", "PROTOBUF"))),
        (422, 42201, lambda: client.register_schema(name, Schema("{", "JSON"))),
        (422, 42201, lambda: client.register_schema(name, Schema('"string"', "AVRO"))),
        (422, 42202, lambda: client.get_version(name, "first")),
        (422, 42202, lambda: client.get_version(name, 0)),
        (422, 42203, lambda: client.set_compatibility(name, "SIDEWAYS")),
        (422, 42208, lambda: client.register_schema("x" * 300, proto())),
    ):
        with refused(status, code):
            call()


def test_deleting_hides_first_and_is_final_second(
    client: SchemaRegistryClient, stack: Stack, name: str
) -> None:
    ids = [client.register_schema(name, of(name, f"bool b = {n};")) for n in (2, 3, 4)]
    assert client.delete_version(name, 2) == 2
    assert client.get_versions(name) == [1, 3]
    fresh = connect(stack, "basic", stack.key)
    assert fresh.get_schema(ids[1]).schema_str == of(name, "bool b = 3;").schema_str
    assert fresh.get_version(name, 2, deleted=True).schema_id == ids[1]
    with refused(404, 40406):
        client.delete_version(name, 2)
    with refused(404, 40407):
        client.delete_version(name, 1, permanent=True)
    assert client.delete_version(name, 2, permanent=True) == 2
    with refused(404, 40403):
        connect(stack, "basic", stack.key).get_schema(ids[1])
    assert client.delete_subject(name) == [1, 3]
    assert name not in client.get_subjects()
    assert name in client.get_subjects(deleted=True)
    with refused(404, 40404):
        client.delete_subject(name)
    # registered anew, it goes on counting
    other = connect(stack, "basic", stack.key)
    assert other.register_schema(name, of(name, "bool b = 2;")) == ids[0]
    assert other.get_versions(name) == [4]
    other.delete_subject(name)
    other.delete_subject(name, permanent=True)
    assert name not in other.get_subjects(deleted=True)


async def test_lists_come_in_parts(stack: Stack, client: SchemaRegistryClient, name: str) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    [schema_id] = {client.register_schema(one, of(name, "int32 a = 2;")) for one in names}
    for fields in ("int32 a = 2; int32 b = 3;", "int32 a = 2; int32 b = 3; int32 c = 4;"):
        client.register_schema(names[0], of(name, fields))
    client.delete_subject(names[4])

    async def ask(path: str, **query: str) -> Any:
        async with (
            stack.session() as session,
            session.get(f"/registry{path}", params=query) as response,
        ):
            return await response.json()

    assert await ask("/subjects", subjectPrefix=name) == names[:4]
    assert await ask("/subjects", subjectPrefix=name, offset="1", limit="2") == names[1:3]
    assert await ask("/subjects", subjectPrefix=name, deleted="true", offset="3") == names[3:]
    assert await ask("/subjects", subjectPrefix=name, deletedOnly="true") == names[4:]
    assert await ask("/subjects", subjectPrefix=name, offset="9") == []
    assert (await ask("/subjects", subjectPrefix="\0"))["error_code"] == 400
    assert await ask(f"/subjects/{names[0]}/versions", offset="1", limit="1") == [2]
    assert await ask(f"/subjects/{names[0]}/versions", offset="3") == []
    assert (await ask(f"/subjects/{name}-none/versions"))["error_code"] == 40401
    uses = await ask(f"/schemas/ids/{schema_id}/versions", offset="1", limit="2")
    assert uses == [{"subject": one, "version": 1} for one in names[1:3]]
    assert await ask(f"/schemas/ids/{schema_id}/subjects", offset="2") == names[2:4]
    one = await ask(f"/schemas/ids/{schema_id}/versions", subject=names[3])
    assert one == [{"subject": names[3], "version": 1}]


def test_schemas_refer_to_each_other(client: SchemaRegistryClient, name: str) -> None:
    address = Schema('syntax = "proto3"; message Address { string city = 1; }', "PROTOBUF")
    client.register_schema(f"{name}-address", address)
    reference = SchemaReference("shop/address.proto", f"{name}-address", 1)
    text = 'syntax = "proto3"; import "shop/address.proto"; message Order { Address at = 1; }'
    with refused(422, 42201):
        client.register_schema(name, Schema(text, "PROTOBUF"))
    with refused(422, 42201):
        lost = SchemaReference("shop/address.proto", f"{name}-nobody", 1)
        client.register_schema(name, Schema(text, "PROTOBUF", [lost]))
    client.register_schema(name, Schema(text, "PROTOBUF", [reference]))
    read = client.get_latest_version(name)
    assert [(r.name, r.subject, r.version) for r in read.schema.references] == [
        ("shop/address.proto", f"{name}-address", 1)
    ]
    with refused(422, 42206):
        client.delete_version(f"{name}-address", 1)
    client.register_schema(f"{name}-user", document({"login": {"type": "string"}}))
    user = SchemaReference("user.json", f"{name}-user", 1)
    issue = Schema('{"properties": {"by": {"$ref": "user.json"}}}', "JSON", [user])
    client.register_schema(f"{name}-issue", issue)
    narrowed = Schema('{"properties": {"by": {"properties": {"login": {"maxLength": 3}}}}}', "JSON")
    assert not client.test_compatibility(f"{name}-issue", narrowed)


def test_serialisers_of_the_client_work_with_it(client: SchemaRegistryClient, name: str) -> None:
    # here: a second for each process that collects tests
    from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer

    context = SerializationContext(name, MessageField.VALUE)
    change = TableChange(key=b"k", value=b"v")
    packed = ProtobufSerializer(TableChange, client, {"use.deprecated.format": False})(
        change, context
    )
    read = ProtobufDeserializer(TableChange, {"use.deprecated.format": False}, client)
    assert read(packed, context) == change
    text = json.dumps({"title": "Order", "type": "object", "properties": {"a": {"minimum": 1}}})
    topic = SerializationContext(f"{name}-json", MessageField.VALUE)
    packed = JSONSerializer(text, client)({"a": 5}, topic)
    assert JSONDeserializer(text, schema_registry_client=client)(packed, topic) == {"a": 5}


def test_built_in_subjects_are_there_and_stay(client: SchemaRegistryClient) -> None:
    envelope = client.get_latest_version("hookstream-envelope")
    assert "message Envelope" in envelope.schema.schema_str
    assert "message RoutedEvent" in client.get_latest_version("hookstream-update").schema.schema_str
    # its text and the generated code say the same
    assert client.lookup_schema("hookstream-envelope", envelope.schema).version == envelope.version
    with refused(422, 42205):
        client.delete_subject("hookstream-envelope")
    with refused(422, 42205):
        client.register_schema("hookstream-update", proto())


def test_example_in_the_docs_runs(stack: Stack) -> None:
    root = ROOT
    code = (root / "examples" / "register_schema.py").read_text()
    block = (root / "docs" / "schemas.md").read_text().split("```python\n")[1].split("```")[0]
    assert block in code
    done = subprocess.run(
        [sys.executable, "examples/register_schema.py"],
        env={**os.environ, "HOOKSTREAM_URL": stack.url, "HOOKSTREAM_ADMIN_KEY": stack.key},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("version 1\n")


@pytest.mark.parametrize("how", ["basic", "bearer"])
def test_wrong_key_is_refused(stack: Stack, how: str) -> None:
    with refused(401, 401):
        connect(stack, how, "wrong").get_subjects()


def schema_of(text: str) -> bytes:
    return json.dumps({"schema": text, "schemaType": "JSON"}).encode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_agents_key_may_not_and_odd_requests_are_no_error_of_ours(stack: Stack) -> None:
    async with stack.session() as session:
        made = await session.post("/api/v1/keys", json={"contexts": ["x"]})
        key = (await made.json())["key"]
        for credentials, status in (
            ({"Authorization": f"Bearer {key}"}, 403),
            (basic("anybody", key), 403),
            (basic(key, ""), 401),
            ({"Authorization": "Basic !!!"}, 401),
            ({"Authorization": "Basic é"}, 401),
            ({"Authorization": "Basic " + base64.b64encode(b"\xff").decode()}, 401),
        ):
            async with session.get("/registry/subjects", headers=credentials) as response:
                assert response.status == status
                assert (await response.json(content_type=None))["error_code"] == status
        for method, path, body, status in (
            ("POST", "/subjects/x/versions", b"", 422),
            ("POST", "/subjects/x/versions", b"[]", 422),
            ("POST", "/subjects/x", b'{"schema": 5}', 422),
            ("POST", "/subjects/x/versions", b'{"schema": "\\u0000", "schemaType": "JSON"}', 422),
            ("POST", "/subjects/x/versions", schema_of('{"not":' * 254 + "{}" + "}" * 254), 422),
            ("POST", "/subjects/x/versions", schema_of('{"a":' * 9000 + "1" + "}" * 9000), 422),
            ("POST", "/subjects/x/versions", schema_of(" " * 1_000_001), 422),
            ("PUT", "/config", b'{"compatibility": null}', 422),
            ("PUT", "/mode", b"{}", 422),
            ("GET", "/schemas/ids/99999999999", b"", 404),
            ("GET", "/subjects?offset=x", b"", 400),
            ("GET", "/subjects/%00/versions", b"", 422),
            ("GET", "/subjects/x/versions/99999999999999", b"", 422),
            ("GET", "/nothing", b"", 404),
        ):
            async with session.request(method, f"/registry{path}", data=body) as response:
                assert response.status == status, (path, await response.text())


def test_hidden_version_that_another_refers_to_stays(
    client: SchemaRegistryClient, name: str
) -> None:
    client.register_schema(f"{name}-user", document({"login": {"type": "string"}}))
    client.delete_version(f"{name}-user", 1)
    # as with Confluent, a reference to a hidden version holds
    text = json.dumps({"properties": {"user": {"$ref": "user.json"}}})
    references = [SchemaReference("user.json", f"{name}-user", 1)]
    client.register_schema(name, Schema(text, "JSON", references))
    for permanently in (
        lambda: client.delete_version(f"{name}-user", 1, permanent=True),
        lambda: client.delete_subject(f"{name}-user", permanent=True),
    ):
        with pytest.raises(SchemaRegistryError) as refused:
            permanently()
        assert (refused.value.http_status_code, refused.value.error_code) == (422, 42206)
    client.delete_subject(name)
    client.delete_subject(name, permanent=True)
    client.delete_subject(f"{name}-user", permanent=True)


async def test_versions_of_concurrent_registrations_have_no_gap_and_no_double(
    stack: Stack, name: str
) -> None:
    async def one(session: aiohttp.ClientSession, number: int) -> int:
        body = {"schema": json.dumps({"title": f"{number}"}), "schemaType": "JSON"}
        path = f"/registry/subjects/{name}/versions"
        async with session.post(path, json=body) as response:
            assert response.status == 200, await response.text()
            return int((await response.json(content_type=None))["id"])

    async with stack.session() as session:
        ids = await asyncio.gather(*(one(session, number) for number in range(8)))
        assert len(set(ids)) == 8
        async with session.get(f"/registry/subjects/{name}/versions") as response:
            assert await response.json(content_type=None) == list(range(1, 9))
