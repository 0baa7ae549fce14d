-- Have keys of a tenant ($1) seal nothing more: those of these ids ($2), or (NULL) all that there are.
UPDATE data_keys SET retired_at = coalesce(retired_at, now())
WHERE tenant = $1 AND shredded_at IS NULL AND ($2::bigint[] IS NULL OR key_id = ANY($2))
RETURNING key_id
