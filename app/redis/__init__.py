"""Redis: the client and what it says, the names of keys, scripts, durability."""
