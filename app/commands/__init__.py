"""The commands that are added to Faust's: ``up``, ``worker``, ``receive``, ``send``, ``dead``,
``keys``, ``partitions``, ``provider``, ``replay``, ``plan``, ``bench``, ``doctor``."""
