-- A deleted context's feed is deleted: its name is free. $1 tenant, $2 context
DELETE FROM deleted_contexts WHERE tenant = $1 AND context_id = $2
