-- Take a tenant's rules for personal data away. $1 tenant
DELETE FROM tenant_masking WHERE tenant = $1
