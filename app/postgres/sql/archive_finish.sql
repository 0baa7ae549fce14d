-- Objects that have been written and read back. $1 names
UPDATE archive_objects SET finished = true
WHERE name = ANY($1::text[]) AND NOT finished
