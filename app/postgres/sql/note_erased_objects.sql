-- $1 erasure, $2 names
INSERT INTO erased_objects (name, erasure_id)
SELECT name, $1 FROM unnest($2::text[]) AS name
ON CONFLICT DO NOTHING
