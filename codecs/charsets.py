"""The characters that senders write in, by the names that the web has for them.

A name comes from a sender, and Python's own look-up is nothing for strangers: it keeps every name
that it was ever asked for, and among what it finds are ``punycode``, which takes the square of a
text's length, and codecs that hide commas and brackets from who counts them.
"""

from typing import Final

__all__ = ["MAX_NAME_CHARS", "charset"]

MAX_NAME_CHARS: Final = 40

#: Python's names → those of the web (https://encoding.spec.whatwg.org/#names-and-labels, the usual
#: ones), in lower case with hyphens. All but UTF-16 and UTF-32 write ASCII as ASCII.
_NAMES: Final = {
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8",
    "utf-16": "utf-16 utf16 unicode ucs-2 iso-10646-ucs-2",
    "utf-16-le": "utf-16le utf-16-le",
    "utf-16-be": "utf-16be utf-16-be",
    "utf-32": "utf-32 utf32",
    "utf-32-le": "utf-32le utf-32-le",
    "utf-32-be": "utf-32be utf-32-be",
    "ascii": "us-ascii ascii ansi-x3.4-1968 iso646-us",
    "latin-1": "iso-8859-1 iso8859-1 iso88591 latin1 latin-1 l1",
    "iso8859-2": "iso-8859-2 iso8859-2 latin2 l2",
    "iso8859-3": "iso-8859-3 iso8859-3 latin3 l3",
    "iso8859-4": "iso-8859-4 iso8859-4 latin4 l4",
    "iso8859-5": "iso-8859-5 iso8859-5 cyrillic",
    "iso8859-6": "iso-8859-6 iso8859-6 arabic",
    "iso8859-7": "iso-8859-7 iso8859-7 greek",
    "iso8859-8": "iso-8859-8 iso8859-8 iso-8859-8-i hebrew",
    "iso8859-9": "iso-8859-9 iso8859-9 latin5 l5",
    "iso8859-10": "iso-8859-10 iso8859-10 latin6 l6",
    "iso8859-11": "iso-8859-11 iso8859-11 tis-620",
    "iso8859-13": "iso-8859-13 iso8859-13",
    "iso8859-14": "iso-8859-14 iso8859-14",
    "iso8859-15": "iso-8859-15 iso8859-15 latin9 latin-9 l9",
    "iso8859-16": "iso-8859-16 iso8859-16",
    "cp866": "ibm866 cp866 866",
    "cp874": "windows-874 cp874 dos-874",
    **{f"cp{n}": f"windows-{n} cp{n} x-cp{n}" for n in range(1250, 1259)},
    "koi8-r": "koi8-r koi8 koi",
    "koi8-u": "koi8-u koi8-ru",
    "mac-roman": "macintosh mac x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "gb18030": "gb18030 gbk gb2312 gb-2312 x-gbk chinese cp936",
    "big5hkscs": "big5 big5-hkscs cn-big5 x-x-big5 cp950",
    "euc-jp": "euc-jp x-euc-jp",
    "iso2022-jp": "iso-2022-jp csiso2022jp",
    "cp932": "shift-jis shiftjis sjis windows-31j ms-kanji x-sjis cp932",
    "cp949": "euc-kr ks-c-5601-1987 ksc5601 korean windows-949 cp949",
}
_CODECS: Final = {name: codec for codec, names in _NAMES.items() for name in names.split()}


def charset(name: str) -> str:
    """Python's name for the characters that a sender names.

    Raises:
        LookupError: nobody writes webhooks in them.
    """
    # a look-up in a table of our own: no name of a stranger's is kept, or imported
    known = _CODECS.get(name[:MAX_NAME_CHARS].strip().lower().replace("_", "-"))
    if known is None:
        raise LookupError(f"unknown characters: {name[:MAX_NAME_CHARS]!r}")
    return known
