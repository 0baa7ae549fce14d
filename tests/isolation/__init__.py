"""One tenant reads and changes nothing of another: every route, as somebody else."""
