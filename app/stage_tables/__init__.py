"""Tables of stages: ``app.Table`` and its windows, committed with the batch that writes them."""
