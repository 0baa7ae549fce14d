-- $1 tenants, $2 names
SELECT t.*
FROM templates AS t
INNER JOIN unnest($1::text[], $2::text[]) AS k (tenant, name) USING (tenant, name)
