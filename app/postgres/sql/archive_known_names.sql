-- Which of these names the manifest has anything of. $1 names
SELECT name FROM archive_objects WHERE name = ANY($1::text[])
UNION ALL
SELECT name FROM archive_leftovers WHERE name = ANY($1::text[])
