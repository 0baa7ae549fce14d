-- Processes of other levels than the one that asks, by the name that their connections carry.
SELECT substring(application_name FROM '^hookstream level (\d+)$')::integer AS level, count(*) AS connections
FROM pg_stat_activity
WHERE datname = current_database() AND application_name ~ '^hookstream level \d+$'
GROUP BY 1
