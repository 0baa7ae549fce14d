-- Where each tenant's audit trail ends.
SELECT tenant, seq, hash FROM audit_heads ORDER BY tenant
