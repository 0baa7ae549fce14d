-- Names whose bytes are deleted. $1 names
DELETE FROM archive_leftovers WHERE name = ANY($1::text[])
