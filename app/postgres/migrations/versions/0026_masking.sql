-- migration: pre, for code from level 10
-- What agents and models are shown of personal data in a tool's events: {"agents": {"email": "mask"},
-- "models": {...}, "fields": {"customer.note": "drop"}}; null: as it comes along.
ALTER TABLE tools ADD COLUMN masking jsonb;
-- the audit trail tells of it, too
DROP TRIGGER tools_audited ON tools;
CREATE CONSTRAINT TRIGGER tools_audited AFTER INSERT OR UPDATE OR DELETE ON tools
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change(
        'tool', 'tool_id',
        'provider,options,dedup,ordering,ttl,alert,payload_schema,webhooks_per_second,allow_from,public_url,masking',
        'secrets,learnt_secret'
    );
