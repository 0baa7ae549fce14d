-- A template with every version that it has had, the newest first. $1 tenant, $2 name
SELECT v.*, t.version AS current
FROM template_versions AS v
INNER JOIN templates AS t USING (tenant, name)
WHERE v.tenant = $1 AND v.name = $2
ORDER BY v.version DESC
