"""PostgreSQL: configuration, and the searchable record of events and deliveries."""
