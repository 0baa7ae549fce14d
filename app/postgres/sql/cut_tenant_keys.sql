-- Revoke the keys of a tenant, and cancel its replays. $1 tenant
WITH keys AS (DELETE FROM api_keys WHERE tenant = $1 RETURNING 1),
cancelled AS (
    UPDATE replays SET status = 'cancelled', all_sent = true, finished_at = now()
    WHERE tenant = $1 AND status = 'running'
    RETURNING 1
)
SELECT (SELECT count(*) FROM keys) AS keys, (SELECT count(*) FROM cancelled) AS cancelled
