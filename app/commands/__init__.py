"""The commands that are added to Faust's: ``up``, ``worker``, ``receive``, ``send``, ``dead``,
``partitions``, ``replay``, ``plan``, ``bench``, ``doctor``."""
