"""What Alembic runs: the revisions, over the connection that ``run.migrate`` handed it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
