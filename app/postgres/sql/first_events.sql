-- The first event of each wanted message id: none that is itself a duplicate, not the event that asks,
-- and none from before the time (ms) from which events count. An event's time is that of its stream
-- entry; one that was tried again has a later entry, so the time of its receipt counts when earlier. One
-- that came by an import never had an entry: what stands there is its place in the archive.
-- $1 tenants, $2 message ids, $3 events that ask, $4 times.
SELECT w.ordinality - 1 AS at, e.event_id, e.entry_id, e.at_ms
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[])
    WITH ORDINALITY AS w (tenant, message_id, event_id, since_ms, ordinality)
CROSS JOIN LATERAL (
    SELECT *
    FROM (
        SELECT
            event_id, tenant, entry_id, entry_ms, entry_seq,
            CASE
                WHEN import_id IS NULL THEN least(entry_ms, (extract(epoch FROM received_at) * 1000)::bigint)
                ELSE (extract(epoch FROM received_at) * 1000)::bigint
            END AS at_ms
        FROM events
        WHERE
            message_id = w.message_id AND status <> 'duplicate' AND message_id <> ''
        -- without this PostgreSQL may walk all events of the tenant, or all in the order below
        OFFSET 0
    ) AS known
    WHERE tenant = w.tenant AND event_id <> w.event_id AND at_ms > w.since_ms
    ORDER BY entry_ms, entry_seq
    LIMIT 1
) AS e
