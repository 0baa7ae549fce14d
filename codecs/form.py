"""Forms (``application/x-www-form-urlencoded``), read in time that their sender cannot choose.

The standard library's ``parse_qsl`` takes up to 4 s for 5 MB of ``%``: a turn of a loop for each.
"""

import binascii
import re
from typing import Final

__all__ = ["FORM", "MAX_FORM_FIELDS", "form_pairs", "is_form"]

FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_FIELDS: Final = 1000
#: ``%`` that stands for itself: browsers and libraries send none.
MAX_BARE_PERCENTS: Final = 1000
_BARE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: Hexadecimal digits as ``0``: counting whether each % escapes takes less than looking at each.
_HEX_DIGITS: Final = bytes(
    ord("0") if chr(code) in "0123456789abcdefABCDEF" else ord("%") if code == ord("%") else 0
    for code in range(256)
)


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form's fields."""
    return content_type.partition(";")[0].strip().lower() == FORM


def form_pairs(
    body: bytes, errors: str = "strict", charset: str = "utf-8"
) -> list[tuple[str, str]]:
    """Names and values in their order; blank ones too.

    ``errors``: what becomes of escaped bytes that are none of ``charset``, as ``bytes.decode`` has
    it. ``charset`` is one of Python's names (:func:`hookstream.codecs.charsets.charset`).

    Raises:
        ValueError: the body is not of this charset, or has too many fields.
    """
    body.decode(charset)
    if body.count(b"&") >= MAX_FORM_FIELDS:
        raise ValueError(f"more than {MAX_FORM_FIELDS} fields")
    pairs = []
    for item in body.split(b"&"):
        if item:
            name, _, value = item.partition(b"=")
            pairs.append((_unquoted(name, errors, charset), _unquoted(value, errors, charset)))
    return pairs


def _unquoted(text: bytes, errors: str, charset: str) -> str:
    text = text.replace(b"+", b" ")
    if b"%" in text:
        # quoted-printable escapes with = what a form escapes with %, and is decoded in C
        seen = text.translate(_HEX_DIGITS)
        if seen.count(b"%00") != seen.count(b"%"):
            text, bare = _BARE.subn(b"%25", text, MAX_BARE_PERCENTS + 1)
            if bare > MAX_BARE_PERCENTS:
                raise ValueError(f"more than {MAX_BARE_PERCENTS} % that escape nothing")
        text = binascii.a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))
    return text.decode(charset, errors)
