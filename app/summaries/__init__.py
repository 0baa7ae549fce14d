"""What agents read: short text about an event, safe to put into a context, counted in tokens.

``text`` makes untrusted text harmless, ``facts`` finds what most payloads have, ``templates`` and
``builtin`` say it per provider and type, ``model`` asks a language model where one is set,
``tokens`` counts, ``summariser`` puts them together.
"""
