-- A page of a tenant's templates. $1 tenant, $2 past which name, $3 limit
SELECT * FROM templates WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3
