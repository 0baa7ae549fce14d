"""Local state in RocksDB, rebuilt from its changelog."""
