"""The commands that are added to Faust's: ``up``, ``receive``, ``send``."""
