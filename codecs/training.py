"""Training a dictionary from a tool's own payloads, and judging it by payloads it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zstandard

from hookstream.codecs.dictionaries import Dictionary
from hookstream.codecs.errors import CodecError
from hookstream.codecs.payload import DICTIONARY_MAX_BYTES
from hookstream.codecs.zstd import compress

__all__ = ["DICTIONARY_BYTES", "MIN_SAMPLES", "Trial", "train", "try_dictionary"]

#: bench/codecs.py: half of it takes a seventh more of what repeats, twice of it saves nothing.
DICTIONARY_BYTES: Final = 64 * 1024
#: Length of the pieces that a dictionary is made of. Left to itself, zstd searches for it, and on
#: few samples finds dictionaries that are half as good (bench/codecs.py).
SEGMENT_BYTES: Final = 1024
#: Fewer than these say too little about what is to come.
MIN_SAMPLES: Final = 32
#: Smaller ones teach nothing.
MIN_SAMPLE_BYTES: Final = 64
#: Most bytes that one training looks at: 0.1 s of one core.
MAX_TRAINING_BYTES: Final = 4 * 1024 * 1024
#: One payload in this many is kept for judging.
HELD_OUT: Final = 5
#: A new dictionary must store what it has not seen in this share of the bytes that it takes now.
BETTER: Final = 0.9


@dataclass(frozen=True, slots=True)
class Trial:
    """A new dictionary, and what the held-out payloads take: themselves, stored now, with it."""

    dictionary: Dictionary
    samples: int
    raw_bytes: int
    bytes_now: int
    bytes_then: int

    @property
    def worth_it(self) -> bool:
        """Whether it saves enough to be stored for ever."""
        return self.bytes_then < self.bytes_now * BETTER

    @property
    def ratio(self) -> float:
        """Bytes of the payloads themselves to one stored byte."""
        return self.raw_bytes / self.bytes_then


def train(
    samples: Sequence[bytes], size: int = DICTIONARY_BYTES, segment: int = SEGMENT_BYTES
) -> Dictionary | None:
    """A dictionary of at most ``size`` bytes; None where zstd finds too little in the samples.

    ``segment`` 0 lets zstd search. (COVER: Liao, Petri, Moffat, Wirth, 2016.)
    """
    options = {"k": segment, "d": 8} if segment else {}
    try:
        found = zstandard.train_dictionary(size, list(samples), **options)
        return Dictionary.of(found.as_bytes())
    except (zstandard.ZstdError, CodecError):
        return None


def try_dictionary(payloads: Sequence[bytes], current: Dictionary | None) -> Trial | None:
    """Train on four fifths of ``payloads`` and judge by the rest; None where there are too few.

    ``current`` is the dictionary in use. To be called on a thread of its own: it takes up to 0.1 s,
    and leaves the interpreter to others meanwhile.
    """
    fit = [p for p in dict.fromkeys(payloads) if MIN_SAMPLE_BYTES <= len(p) <= DICTIONARY_MAX_BYTES]
    budget = MAX_TRAINING_BYTES
    samples = []
    for payload in fit:
        budget -= len(payload)
        if budget < 0:
            break
        samples.append(payload)
    if len(samples) < MIN_SAMPLES:
        return None
    unseen = samples[::HELD_OUT]
    seen = [payload for at, payload in enumerate(samples) if at % HELD_OUT]
    dictionary = train(seen)
    if dictionary is None:
        return None
    return Trial(
        dictionary,
        samples=len(seen),
        raw_bytes=sum(map(len, unseen)),
        bytes_now=sum(len(compress(payload, current)) for payload in unseen),
        bytes_then=sum(len(compress(payload, dictionary)) for payload in unseen),
    )
