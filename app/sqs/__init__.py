"""Queues of Amazon SQS: events that come out of them."""
