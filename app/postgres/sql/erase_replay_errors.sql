-- What was said of replays of some events that failed. $1 tenant, $2 events, $3 trial
WITH one AS (
    UPDATE replays SET error = ''
    WHERE NOT $3::boolean AND tenant = $1 AND event_id = ANY($2::uuid[]) AND error <> ''
    RETURNING 1
),

many AS (
    UPDATE replay_events SET error = ''
    WHERE NOT $3::boolean AND event_id = ANY($2::uuid[]) AND error <> ''
    RETURNING 1
)

SELECT (SELECT count(*) FROM one) + (SELECT count(*) FROM many) AS found
