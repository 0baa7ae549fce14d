-- Objects that went by an erasure, and that the manifest does not have.
SELECT e.name FROM erased_objects AS e
WHERE NOT EXISTS (SELECT FROM archive_objects AS o WHERE o.name = e.name)
ORDER BY e.name
