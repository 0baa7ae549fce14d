-- How many replays of a tenant run. $1 tenant
SELECT count(*) AS running FROM replays
WHERE
    tenant = $1 AND status = 'running'
    AND (NOT all_sent OR created_at > now() - interval '10 minutes')
