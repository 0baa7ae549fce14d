"""Personal data and secrets in payloads: found by detectors, hidden by rules. Pure: no I/O."""
