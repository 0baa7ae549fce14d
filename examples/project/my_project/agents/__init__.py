"""What this project adds to the pipeline: each file a stage; the order of their names is theirs."""
