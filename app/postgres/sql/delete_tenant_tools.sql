-- Delete a tenant's tools; their names. $1 tenant
DELETE FROM tools WHERE tenant = $1 RETURNING tool_id
