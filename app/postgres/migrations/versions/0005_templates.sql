-- migration: pre, for code from level 5
-- Summary templates of a tenant's own, each with every version that it has had.
CREATE TABLE templates (
    tenant      text NOT NULL,
    name        text NOT NULL,
    provider    text NOT NULL,
    types       text NOT NULL,
    source      text NOT NULL,
    version     integer NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name)
);

CREATE TABLE template_versions (
    tenant      text NOT NULL,
    name        text NOT NULL,
    version     integer NOT NULL,
    provider    text NOT NULL,
    types       text NOT NULL,
    source      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES templates ON DELETE CASCADE
);

CREATE TRIGGER templates_changed AFTER INSERT OR UPDATE OR DELETE ON templates
    FOR EACH STATEMENT EXECUTE FUNCTION registry_changed();
