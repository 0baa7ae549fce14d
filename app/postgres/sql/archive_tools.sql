-- Tools that the archive has something of.
SELECT DISTINCT tenant, tool_id FROM archive_objects
