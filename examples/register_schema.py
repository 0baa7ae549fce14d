"""Registers a JSON Schema with Confluent's own client (pip install 'confluent-kafka[json]')."""

import os
from pathlib import Path

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

url = os.environ.get("HOOKSTREAM_URL", "http://127.0.0.1:6066")
key = os.environ.get("HOOKSTREAM_ADMIN_KEY") or Path(".hookstream/admin.key").read_text().strip()

client = SchemaRegistryClient(
    {"url": f"{url}/registry", "basic.auth.user.info": f"hookstream:{key}"}
)
schema = Schema('{"type": "object", "required": ["action"]}', "JSON")
print("id", client.register_schema("github-payload", schema))
print("version", client.get_latest_version("github-payload").version)
