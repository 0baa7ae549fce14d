"""The Kafka that may stand beside: topics as sources, mirrors of events and updates, agents."""
