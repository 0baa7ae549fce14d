"""Token counts by a real tokenizer: OpenAI's o200k_base, which comes along.

Other models' tokenizers differ by some percent; one that is the same everywhere makes budgets
comparable.
"""

import gzip
from binascii import a2b_base64
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import tiktoken

__all__ = ["count_tokens", "cut_to_tokens", "load_tokenizer"]

#: Characters that the tokenizer is given at a time, and that are counted at all: more than the
#: largest budget has.
PART_CHARS = 4096
MAX_CHARS = 512 * 1024

#: The split of o200k_base, as published with the ranks.
_SPLIT = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


@cache
def _encoding() -> tiktoken.Encoding:
    """About 0.15 s and 60 MB, once a process: only where something is counted."""
    packed = files("hookstream.app.summaries").joinpath("o200k_base.tiktoken.gz").read_bytes()
    # each line is a token and its rank; they are numbered as they stand
    tokens = gzip.decompress(packed).split()[::2]
    ranks = dict(zip(map(a2b_base64, tokens), range(len(tokens)), strict=True))
    return tiktoken.Encoding("o200k_base", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={})


def load_tokenizer() -> None:
    """Make it ready, so that the first text does not wait for it."""
    _encoding()


def count_tokens(text: str) -> int:
    """Tokens of ``text``; what looks like a special token counts as the text it is.

    Some 0.2 s at most, whatever the text: of more than :data:`MAX_CHARS` characters each further
    one counts as its bytes, and no text has more tokens than bytes.
    """
    if len(text) <= PART_CHARS:
        return len(_encoding().encode_ordinary(text))
    counted = sum(len(tokens) for tokens in _tokens(text))
    return counted + len(text[MAX_CHARS:].encode(errors="surrogatepass"))


def cut_to_tokens(text: str, limit: int) -> str:
    """``text`` with at most ``limit`` tokens, an ellipsis at the end where it was cut.

    Bounded in time as :func:`count_tokens` is.
    """
    tokens: list[int] = []
    for part in _tokens(text):
        tokens += part
        if len(tokens) > limit:
            break
    else:
        if len(text) <= MAX_CHARS:
            return text
    keep, less = min(limit - 1, len(tokens)), 1
    while keep > 0:
        # a cut may fall into a character; and the ellipsis may need a token, or join with one
        cut = _encoding().decode(tokens[:keep], errors="ignore").rstrip() + "…"
        if count_tokens(cut) <= limit:
            return cut
        keep, less = keep - less, less * 2
    return ""


def _tokens(text: str) -> Iterator[list[int]]:
    """The tokens of the first :data:`MAX_CHARS` characters, a part at a time.

    The tokenizer panics on a million spaces, and takes more than twice as long for twice as much of
    one character. Parts end before a word where there is one: there they begin tokens anyway.
    """
    at, end = 0, min(len(text), MAX_CHARS)
    while at < end:
        to = min(end, at + PART_CHARS)
        if to < end:
            space = text.rfind(" ", at + PART_CHARS // 2, to - 1)
            if space > 0 and not text[space - 1].isspace() and text[space + 1].isalnum():
                to = space
        yield _encoding().encode_ordinary(text[at:to])
        at = to
