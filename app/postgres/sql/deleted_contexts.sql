-- Contexts whose feed is still to be deleted.
SELECT tenant, context_id FROM deleted_contexts
