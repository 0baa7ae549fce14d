"""Embedded servers: Valkey and PostgreSQL as child processes that never outlive their owner."""

from hookstream.app.embedded.postgres import find_postgres, start_postgres
from hookstream.app.embedded.process import GuardedProcess
from hookstream.app.embedded.server import EmbeddedServer
from hookstream.app.embedded.valkey import find_valkey, start_valkey

__all__ = [
    "EmbeddedServer",
    "GuardedProcess",
    "find_postgres",
    "find_valkey",
    "start_postgres",
    "start_valkey",
]
