-- migration: pre, for code from level 10
-- How far a tool has moved from old workers to here: {"mode": "split", "percent": 10, "generation": 3,
-- "history": [{"mode": "shadow", "percent": 0, "generation": 2, "at": "…"}, …]}; null: it does not move.
ALTER TABLE tools ADD COLUMN migration jsonb;
-- the audit trail tells of it, too
DROP TRIGGER tools_audited ON tools;
CREATE CONSTRAINT TRIGGER tools_audited AFTER INSERT OR UPDATE OR DELETE ON tools
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change(
        'tool', 'tool_id',
        'provider,options,dedup,ordering,ttl,alert,payload_schema,webhooks_per_second,allow_from,public_url,masking,source,forward,migration',
        'secrets,learnt_secret'
    );
