"""PostgreSQL: the pool, statements as files, migrations."""
