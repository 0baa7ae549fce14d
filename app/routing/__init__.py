"""Whose event it is: the catalog of tools, contexts and subscriptions, and matching."""
