"""The archive: events as Parquet objects in a folder or bucket, and which of them are where."""
