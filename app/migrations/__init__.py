"""The database's schema, as numbered SQL files that Alembic runs."""
