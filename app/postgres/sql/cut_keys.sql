-- A context is gone: keys that name it and others lose it, keys that name nothing else end with it.
-- $1 tenant, $2 context
WITH cut AS (
    UPDATE api_keys SET contexts = array_remove(contexts, $2)
    WHERE tenant = $1 AND $2 = ANY (contexts) AND contexts <> ARRAY[$2]
)
DELETE FROM api_keys WHERE tenant = $1 AND contexts = ARRAY[$2]
