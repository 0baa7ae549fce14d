-- $1 tenant
SELECT * FROM templates WHERE tenant = $1 ORDER BY name
