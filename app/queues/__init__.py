"""What queues and topics have in common: how they do, their tasks, and the way through the door."""
