"""Lifecycle: moves events from tier to tier as they age, and forgets what is over."""
