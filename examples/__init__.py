"""Files to copy; every one is run by the tests."""
