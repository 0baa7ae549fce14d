-- Contexts of a tenant whose feeds are still to be deleted. $1 tenant
SELECT count(*) AS contexts FROM deleted_contexts WHERE tenant = $1
