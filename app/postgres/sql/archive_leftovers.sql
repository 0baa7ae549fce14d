-- Names whose bytes are still to be deleted. $1 most
SELECT name FROM archive_leftovers
ORDER BY since
LIMIT $1
