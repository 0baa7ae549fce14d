"""People: who signs in by OpenID Connect, with which role, and for how long."""
