-- migration: pre, for code from level 10
-- The queue that a tool's events are copied into: {"sqs": {"queue_url": "…", "auth_context": {…}}};
-- null: none.
ALTER TABLE tools ADD COLUMN forward jsonb;
-- the audit trail tells of it, too
DROP TRIGGER tools_audited ON tools;
CREATE CONSTRAINT TRIGGER tools_audited AFTER INSERT OR UPDATE OR DELETE ON tools
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change(
        'tool', 'tool_id',
        'provider,options,dedup,ordering,ttl,alert,payload_schema,webhooks_per_second,allow_from,public_url,masking,source,forward',
        'secrets,learnt_secret'
    );
