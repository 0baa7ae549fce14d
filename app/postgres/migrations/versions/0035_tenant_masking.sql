-- migration: pre, for code from level 10
-- A tenant's own rules for personal data, which stand behind those of its tools: {"agents": {"email":
-- "mask"}, "models": {...}, "fields": {...}, "keep": "original"}.
CREATE TABLE tenant_masking (
    tenant      text PRIMARY KEY,
    masking     jsonb NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER tenant_masking_inserted AFTER INSERT ON tenant_masking REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('tenant');
CREATE TRIGGER tenant_masking_updated AFTER UPDATE ON tenant_masking
    REFERENCING OLD TABLE AS earlier NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('tenant');
CREATE TRIGGER tenant_masking_deleted AFTER DELETE ON tenant_masking REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_logged('tenant');
CREATE CONSTRAINT TRIGGER tenant_masking_audited AFTER INSERT OR UPDATE OR DELETE ON tenant_masking
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION
    audit_change('masking', 'tenant', 'masking', '');
