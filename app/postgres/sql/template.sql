-- The version of a template that counts. $1 tenant, $2 name
SELECT v.*
FROM template_versions AS v
INNER JOIN templates AS t USING (tenant, name, version)
WHERE v.tenant = $1 AND v.name = $2
