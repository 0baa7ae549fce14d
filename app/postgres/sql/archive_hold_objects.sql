-- Which of these objects are still there; nobody takes them away until the end of this transaction. $1 names
SELECT name FROM archive_objects
WHERE name = ANY($1::text[]) AND finished
ORDER BY name
FOR UPDATE
