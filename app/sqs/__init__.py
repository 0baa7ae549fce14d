"""Queues of Amazon SQS: events that come out of them, and are copied into them."""
