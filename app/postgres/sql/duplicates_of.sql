-- Events that are duplicates of others: they have the same content. $1 tenant, $2 the others
SELECT event_id FROM events
WHERE tenant = $1 AND duplicate_of = ANY($2::uuid[])
