-- Begin a replay, unless as many run to its context as may, or one of the same event.
-- $1 replay, $2 tenant, $3 context, $4 most that run to it (0: any number), $5 event, or NULL for
-- one by filter: $6 filter, $7 rate; $8 events matched, $9 at least; $10 most that run of its tenant
-- (0: any number).
-- To be run in turn with others of the context, with $10 with others of the tenant. One of a single event counts for ten minutes at
-- most: a process that died before it sent it, or an event that waits for somebody, keeps nobody
-- from asking again.
WITH single AS (
    SELECT event_id FROM replays
    WHERE
        tenant = $2 AND context_id = $3 AND status = 'running' AND all_sent
        AND event_id IS NOT NULL AND created_at > now() - interval '10 minutes'
),
by_filter AS (
    SELECT replay_id FROM replays
    WHERE tenant = $2 AND context_id = $3 AND status = 'running' AND NOT all_sent
),
seen AS (
    SELECT
        EXISTS (SELECT FROM single WHERE event_id = $5::uuid) AS same,
        (SELECT count(*) FROM single) + (SELECT count(*) FROM by_filter) AS running,
        CASE
            WHEN $10::bigint = 0 THEN 0
            ELSE (
                SELECT count(*) FROM replays
                WHERE
                    tenant = $2 AND status = 'running'
                    AND (NOT all_sent OR created_at > now() - interval '10 minutes')
            )
        END AS of_tenant
),
made AS (
    INSERT INTO replays (
        replay_id, tenant, event_id, context_id, status, filter, rate, matched, matched_more, sent, all_sent
    )
    SELECT
        $1::uuid, $2, $5, $3, 'running', $6::jsonb, $7::double precision, $8::bigint, $9::boolean,
        ($5 IS NOT NULL)::integer, $5 IS NOT NULL
    FROM seen
    WHERE
        NOT same AND ($4::bigint = 0 OR running < $4)
        AND ($10::bigint = 0 OR of_tenant < $10::bigint)
)
SELECT same, running, of_tenant FROM seen
