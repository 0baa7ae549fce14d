-- Objects of a tenant ($1) that went by an erasure, and that the manifest names: an older copy of it does.
SELECT o.name, o.tool_id FROM erased_objects AS e
INNER JOIN archive_objects AS o ON e.name = o.name
WHERE o.tenant = $1 AND o.finished
ORDER BY o.name
