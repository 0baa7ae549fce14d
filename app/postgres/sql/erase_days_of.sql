-- Summaries of days that told of some events. $1 tenant, $2 events, $3 what stands there then, $4 trial
WITH wanted AS (
    SELECT DISTINCT s.tenant, s.context_id, s.day
    FROM daily_summaries AS s
    INNER JOIN deliveries AS d
        ON d.tenant = s.tenant AND d.context_id = s.context_id AND d.seq BETWEEN s.from_seq AND s.to_seq
    WHERE s.tenant = $1 AND d.event_id = ANY($2::uuid[]) AND s.summary <> $3
),

erased AS (
    UPDATE daily_summaries AS s SET summary = $3
    FROM wanted AS w
    WHERE
        NOT $4::boolean AND s.tenant = w.tenant AND s.context_id = w.context_id AND s.day = w.day
)

SELECT count(*) AS found FROM wanted
