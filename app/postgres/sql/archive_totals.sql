SELECT
    count(*) AS objects,
    coalesce(sum(bytes), 0)::bigint AS bytes,
    coalesce(sum(events), 0)::bigint AS events,
    coalesce(sum(payload_bytes), 0)::bigint AS payload_bytes,
    (SELECT count(*) FROM archive_leftovers) AS leftovers
FROM archive_objects
WHERE finished
