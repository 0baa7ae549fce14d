-- migration: pre, for code from level 10
-- Tenants: who owns tools, contexts and keys. The installation's own is `default`. `quotas`:
-- {"events_per_second": 100, "tools": 20, …}; what is left out is as in the whole installation.
CREATE TABLE tenants (
    tenant_id   text PRIMARY KEY,
    name        text NOT NULL DEFAULT '',
    -- active, suspended or deleting
    state       text NOT NULL DEFAULT 'active',
    reason      text NOT NULL DEFAULT '',
    quotas      jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (tenant_id)
SELECT 'default'
UNION SELECT tenant FROM tools
UNION SELECT tenant FROM contexts
UNION SELECT tenant FROM api_keys;

-- Tenants whose data are being deleted, and how far that has come: what was found by step, and what
-- was in its way last. A row stays when all is deleted.
CREATE TABLE tenant_deletions (
    tenant_id    text PRIMARY KEY,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    step         text NOT NULL DEFAULT '',
    deleted      jsonb NOT NULL DEFAULT '{}',
    error        text NOT NULL DEFAULT '',
    passes       integer NOT NULL DEFAULT 0,
    finished_at  timestamptz,
    -- one process at a time works on it
    owner        text NOT NULL DEFAULT '',
    lease_until  timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER tenants_inserted AFTER INSERT ON tenants REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('tenant_id');
CREATE TRIGGER tenants_updated AFTER UPDATE ON tenants
    REFERENCING OLD TABLE AS earlier NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('tenant_id');
CREATE TRIGGER tenants_deleted AFTER DELETE ON tenants REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('tenant_id');

-- In the trail of `default`, who operates the installation: a tenant's own ends with it.
CREATE CONSTRAINT TRIGGER tenants_audited AFTER INSERT OR UPDATE OR DELETE ON tenants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change(
        'tenant', 'tenant_id', 'name,state,reason,quotas', ''
    );
