"""Schemes of webhook signatures, one file each: pure functions, over the bytes as sent.

``verify_*`` return nothing or raise SignatureError, whatever a sender puts into its headers;
``sign_*`` make what they accept. Comparisons take the same time wherever the difference is, and
each secret of a tool is tried, so that one can be replaced by another without a gap.
"""
