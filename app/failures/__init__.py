"""Events that failed: retries, dead letters, blocked keys, alerts."""
