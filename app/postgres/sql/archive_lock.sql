-- One after the other with whatever else writes the manifest of this tool, until the end of this transaction.
SELECT pg_advisory_xact_lock(hashtextextended('archive ' || $1::text || '/' || $2::text, 0))
