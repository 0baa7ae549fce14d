-- $1 erasure, $2 tenant, $3 events, $4 of each the hashes of what was sent, in hex with commas
INSERT INTO tombstones (erasure_id, event_id, tenant, sent)
SELECT
    $1,
    t.event_id,
    $2,
    ARRAY(
        SELECT DISTINCT decode(one, 'hex')
        FROM unnest(string_to_array(string_agg(t.sent, ','), ',')) AS one
        WHERE one <> ''
    )
FROM unnest($3::uuid[], $4::text[]) AS t (event_id, sent)
-- a page may have an event twice: it was replayed
GROUP BY t.event_id
ON CONFLICT (erasure_id, event_id) DO UPDATE SET
    sent = CASE WHEN excluded.sent = '{}' THEN tombstones.sent ELSE excluded.sent END
