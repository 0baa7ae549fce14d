"""Tokens are counted and cut within bounds, whatever the text."""

import base64
import gzip
import random
from importlib.resources import files
from typing import Any

import pytest

from hookstream.app.summaries import tokens
from hookstream.app.summaries.tokens import MAX_CHARS, PART_CHARS, count_tokens, cut_to_tokens
from tests.support import ROOT


class Counted:
    """The tokenizer, and the lengths of what it was given."""

    def __init__(self) -> None:
        self._real = tokens._encoding()
        self.given: list[int] = []

    def encode_ordinary(self, text: str) -> list[int]:
        self.given.append(len(text))
        return self._real.encode_ordinary(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_tokens_are_numbered_as_they_stand_in_their_file() -> None:
    packed = files("hookstream.app.summaries").joinpath("o200k_base.tiktoken.gz").read_bytes()
    lines = gzip.decompress(packed).splitlines()
    published = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    assert tokens._encoding()._mergeable_ranks == published


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(tokens, "_encoding", lambda: counted)
    return counted


@pytest.mark.parametrize("unit", [" ", "a", "\n", "\u200d", "😀", "!", "a1", "\ud800", "word "])
def test_a_text_of_any_length_costs_what_a_bounded_one_costs(tokenizer: Counted, unit: str) -> None:
    text = unit * (5_000_000 // len(unit))
    found = count_tokens(text)
    # 5 MB of spaces made the tokenizer panic, with what is no Exception
    assert max(tokenizer.given) <= PART_CHARS
    assert sum(tokenizer.given) <= MAX_CHARS
    # never too few: each token has a byte at least, and 128 at most
    assert len(text) / 128 < found <= len(text.encode(errors="surrogatepass"))
    tokenizer.given.clear()
    cut = cut_to_tokens(text, 64)
    assert cut.endswith("…")
    assert max(tokenizer.given) <= PART_CHARS
    # a token of spaces is 128 long; the part that is over the limit, and some tries of the cut
    assert sum(tokenizer.given) <= 12 * 64 * 128 + 2 * PART_CHARS
    assert count_tokens(cut) <= 64


def test_parts_make_no_difference_to_words() -> None:
    # a text that nobody changes: where its parts end counts
    text = " ".join((ROOT / "LICENSE").read_text().split()) * 24
    assert len(text) > 5 * PART_CHARS
    whole = len(tokens._encoding().encode_ordinary(text))
    assert abs(count_tokens(text) - whole) <= 2
    assert cut_to_tokens(text, whole + 10) == text
    assert count_tokens(cut_to_tokens(text, whole - 100)) <= whole - 100


def test_what_is_cut_fits_its_limit_and_is_a_beginning() -> None:
    rng = random.Random(16)
    alphabet = "ab  \n\t1é字😀\u0301-_/\u200d"
    for _ in range(300):
        text = "".join(rng.choices(alphabet, k=rng.randrange(1, 400)))
        limit = rng.randrange(1, 60)
        cut = cut_to_tokens(text, limit)
        assert count_tokens(cut) <= limit
        assert cut == text or text.startswith(cut.removesuffix("…"))
