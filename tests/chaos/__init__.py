"""Breaking the system under load, with a ledger of what was promised kept outside of it."""
