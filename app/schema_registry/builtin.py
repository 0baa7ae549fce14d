"""The subjects that come along: the schemas of ``proto/``, registered at start."""

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

__all__ = ["BUILTIN", "BuiltinSchemas"]

logger = get_logger(__name__)

#: Subject → the file of ``proto/`` and its generated module.
BUILTIN = {
    "hookstream-envelope": ("envelope.proto", envelope_pb2),
    "hookstream-update": ("pipeline.proto", pipeline_pb2),
}


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
                for subject in BUILTIN:
                    schema, parsed = builtin(subject)
                    await self._store.register_parsed(self._tenant, subject, schema, parsed)
                return
            except SchemaRegistryError as error:
                logger.error("a built-in schema cannot be registered: %s", error)
                return
            except UnavailableError:
                failures += 1
                await self.sleep(backoff_seconds(failures))


def builtin(subject: str) -> tuple[Schema, ProtobufSchema]:
    """A built-in subject's schema; its descriptors are those of the generated code."""
    name, module = BUILTIN[subject]
    text = files("hookstream.proto").joinpath(name).read_text()
    file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    file.name = ROOT
    compiled = FileDescriptorSet(file=[file]).SerializeToString()
    return Schema(SchemaType.PROTOBUF, text), ProtobufSchema(compiled)
