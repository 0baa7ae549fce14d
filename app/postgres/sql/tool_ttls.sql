-- How long events of tools are kept in their tiers, each way once.
SELECT DISTINCT ttl FROM tools
