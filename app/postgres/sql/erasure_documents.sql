-- What is to be remembered of each erasure elsewhere. $1 most events of one
SELECT
    e.erasure_id,
    e.tenant,
    e.kind,
    e.target,
    e.reason,
    found.events,
    found.sent,
    (SELECT array_agg(o.name ORDER BY o.name) FROM erased_objects AS o WHERE o.erasure_id = e.erasure_id)
        AS objects
FROM erasures AS e
LEFT JOIN LATERAL (
    SELECT
        array_agg(t.event_id ORDER BY t.event_id) AS events,
        array_agg(
            (SELECT coalesce(string_agg(encode(one, 'hex'), ','), '') FROM unnest(t.sent) AS one)
            ORDER BY t.event_id
        ) AS sent
    FROM (SELECT * FROM tombstones WHERE erasure_id = e.erasure_id ORDER BY event_id LIMIT $1) AS t
) AS found ON true
WHERE NOT e.dry_run
ORDER BY e.erasure_id
