-- Delete the dictionaries of a tenant's tools; their ids. $1 tenant
DELETE FROM dictionaries WHERE tenant = $1 RETURNING dictionary_id
