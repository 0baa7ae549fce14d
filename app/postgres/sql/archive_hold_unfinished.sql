-- Which of these are still to be finished; nobody gives them up until the end of this transaction. $1 names
SELECT name FROM archive_objects
WHERE name = ANY($1::text[]) AND NOT finished
ORDER BY name
FOR UPDATE
