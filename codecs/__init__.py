"""Bytes to values and back. Importing this package registers its codecs with Faust by name."""

from faust.serializers import codecs as faust_codecs

from hookstream.codecs.envelope import EnvelopeCodec
from hookstream.codecs.routed import AuditCodec, RoutedCodec
from hookstream.codecs.zstd import ZstdCodec

faust_codecs.register("hookstream_envelope", EnvelopeCodec())
faust_codecs.register("hookstream_routed", RoutedCodec())
faust_codecs.register("hookstream_audit", AuditCodec())
faust_codecs.register("hookstream_zstd", ZstdCodec())
