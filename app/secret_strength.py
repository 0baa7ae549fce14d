"""How hard a key or a secret is to guess, by what it looks like.

What one captured webhook is signed with can be tried out at home, a billion guesses a second. No
look at a text can say that it is random: this finds only what surely is not.
"""

import re
from typing import Final

__all__ = ["MIN_CHARACTERS", "essence", "is_guessable", "is_weak"]

#: Fewer characters are a matter of minutes.
MIN_CHARACTERS: Final = 6
#: From here on a secret that looks simple may have been meant: it is taken, and called weak.
LONG: Final = 16
MIN_ESSENCE: Final = 4
STRONG_ESSENCE: Final = 8

#: What people type where they are asked for a secret; each counts as one character.
_WORDS: Final = re.compile(
    "hookstream|qwertyuiop|password|passw0rd|passwort|changeme|webhooks?|letmein|welcome|example|"
    "default|qwerty|qwertz|secrets?|change|github|please|asdf|admin|token|test|hook|demo|root|"
    "pass|key|me"
)
_REPEATED: Final = re.compile(r"(.{2,}?)\1+", re.DOTALL)


def essence(text: str) -> int:
    """Characters that are left once known words, repetition and runs (abc, 321) count as one."""
    text = _WORDS.sub("\0", _REPEATED.sub(r"\1", text.casefold()[:256]))
    count, step = 0, None
    for before, char in zip(text[:1] + text, text, strict=False):
        found = ord(char) - ord(before)
        # the second of a run still says which way it goes
        if found != step or abs(found) > 1:
            count += 1
        step = found
    return count


def is_guessable(secret: str) -> bool:
    """Whether a secret is too short or too simple to be taken."""
    return len(secret) < MIN_CHARACTERS or (len(secret) < LONG and essence(secret) < MIN_ESSENCE)


def is_weak(secret: str) -> bool:
    """Whether a secret, though taken, should be replaced by a random one."""
    return len(secret) < LONG or essence(secret) < STRONG_ESSENCE
