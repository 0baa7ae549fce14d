-- migration: pre, for code from level 10
-- Releases up to level 10 look into this table of Alembic's and start only where it says 0010. They
-- run on all that is added since; the first `post` migration that ends that has to drop the table.
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY
);
DELETE FROM alembic_version;
INSERT INTO alembic_version VALUES ('0010');
