-- Whose claim of each partition writes the event log. $1 partitions
SELECT partition, nonce FROM event_log_claims WHERE partition = ANY ($1::integer[])
