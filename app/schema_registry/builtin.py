"""The subjects that come along: the schemas of ``proto/``, and of updates, registered at start."""

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import SchemaRegistryError, UnavailableError
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.codecs.schemas import ProtobufSchema, Schema, SchemaType
from hookstream.codecs.schemas.protoc import ROOT
from hookstream.proto import envelope_pb2, pipeline_pb2

__all__ = ["BUILTIN", "NAMES", "BuiltinSchemas", "builtin_id"]

logger = get_logger(__name__)

#: Subject → the file of ``proto/`` and its generated module.
BUILTIN = {
    "hookstream-envelope": ("envelope.proto", envelope_pb2),
    "hookstream-update": ("pipeline.proto", pipeline_pb2),
}
#: Subject → the file here that has its JSON Schema.
BUILTIN_JSON = {"hookstream-feed-update": "feed_update.json"}
#: Subjects that nobody else may change.
NAMES = frozenset((*BUILTIN, *BUILTIN_JSON))


class BuiltinSchemas(Service):
    """Registers what is not registered yet; doing it again changes nothing."""

    mundane_level = "debug"

    def __init__(self, store: SchemaStore, tenant: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._store = store
        self._tenant = tenant

    @tasks.loop
    async def _register(self) -> None:
        failures = 0
        while not self.should_stop:
            try:
                for subject in sorted(NAMES):
                    await builtin_id(self._store, self._tenant, subject)
                return
            except SchemaRegistryError as error:
                logger.error("a built-in schema cannot be registered: %s", error)
                return
            except UnavailableError:
                failures += 1
                await self.sleep(backoff_seconds(failures))


async def builtin_id(store: SchemaStore, tenant: str, subject: str) -> int:
    """The id of a built-in subject's schema, which is registered where it is not.

    Raises:
        UnavailableError: PostgreSQL cannot be asked now.
        SchemaRegistryError: it is not compatible with what is registered.
    """
    if subject in BUILTIN_JSON:
        text = files("hookstream.app.schema_registry").joinpath(BUILTIN_JSON[subject]).read_text()
        version = await store.register(tenant, subject, Schema(SchemaType.JSON, text))
    else:
        version = await store.register_parsed(tenant, subject, *builtin(subject))
    return version.schema_id


def builtin(subject: str) -> tuple[Schema, ProtobufSchema]:
    """A built-in subject's schema; its descriptors are those of the generated code."""
    name, module = BUILTIN[subject]
    text = files("hookstream.proto").joinpath(name).read_text()
    file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    file.name = ROOT
    compiled = FileDescriptorSet(file=[file]).SerializeToString()
    return Schema(SchemaType.PROTOBUF, text), ProtobufSchema(compiled)
