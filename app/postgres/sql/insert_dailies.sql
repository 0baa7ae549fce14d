-- Daily summaries, each context's day once; the newest counts.
INSERT INTO daily_summaries (
    tenant, context_id, day, seq, summary, tokens, updates, from_seq, to_seq, created_at
)
SELECT
    d.tenant, d.context_id, d.day::date, d.seq, d.summary, d.tokens, d.updates, d.from_seq,
    d.to_seq, to_timestamp(d.created_at_ms / 1000.0)
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::int[], $7::int[],
    $8::bigint[], $9::bigint[], $10::bigint[]
) AS d (
    tenant, context_id, day, seq, summary, tokens, updates, from_seq, to_seq, created_at_ms
)
ON CONFLICT (tenant, context_id, day) DO UPDATE SET
    seq = excluded.seq, summary = excluded.summary, tokens = excluded.tokens,
    updates = excluded.updates, from_seq = excluded.from_seq, to_seq = excluded.to_seq,
    created_at = excluded.created_at
