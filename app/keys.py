"""Every Redis key name. Keys of a partition share a hash tag, so one script may touch them all."""

__all__ = [
    "GROUP",
    "META",
    "acks",
    "audit",
    "changelog",
    "dead",
    "events",
    "feed",
    "feed_channel",
    "lease",
    "origins",
    "seqs",
    "stream",
    "updates",
]

#: The consumer group of every stream.
GROUP = "hookstream"
#: Hash of facts about the whole installation: the partition count, the schema version.
META = "hs:meta"


def stream(name: str, partition: int) -> str:
    """The stream of a channel in one partition."""
    return f"{{hs:{partition}}}:{name}"


def events(partition: int) -> str:
    """Stream of accepted webhooks."""
    return stream("events", partition)


def updates(partition: int) -> str:
    """Stream of routed events on their way to the contexts of this partition."""
    return stream("updates", partition)


def audit(partition: int) -> str:
    """Stream of what was decided, on its way to PostgreSQL."""
    return stream("audit", partition)


def changelog(partition: int) -> str:
    """Stream of table writes, from which RocksDB is rebuilt."""
    return stream("changelog", partition)


def dead(partition: int) -> str:
    """Stream of dead letters."""
    return stream("dead", partition)


def lease(partition: int) -> str:
    """Hash: owner, epoch, nonce and expiry of the partition's lease."""
    return f"{{hs:{partition}}}:lease"


def origins(partition: int) -> str:
    """Hash: the highest entry of each ``events[p]`` that has reached this partition's feeds."""
    return f"{{hs:{partition}}}:origins"


def seqs(partition: int) -> str:
    """Hash: the last sequence number of each context of this partition."""
    return f"{{hs:{partition}}}:seqs"


def acks(partition: int) -> str:
    """Hash: the sequence number that each context's client has acknowledged."""
    return f"{{hs:{partition}}}:acks"


def feed(partition: int, tenant: str, context_id: str) -> str:
    """Stream of a context's updates; an entry's id is ``seq-0``."""
    return f"{{hs:{partition}}}:feed:{tenant}/{context_id}"


def feed_channel(tenant: str, context_id: str) -> str:
    """Pub/sub channel that says: this feed has moved. A cue to read, never the news itself."""
    return f"hs:feed:{tenant}/{context_id}"
