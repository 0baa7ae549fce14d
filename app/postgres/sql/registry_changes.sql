-- Rows that have changed since a version, each once. $1 version, $2 limit
SELECT DISTINCT kind, row_key FROM registry_changes WHERE version > $1 LIMIT $2
