-- $1 tenant, $2 name
DELETE FROM templates WHERE tenant = $1 AND name = $2
