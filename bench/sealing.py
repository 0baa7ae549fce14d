"""What sealing costs: every provider's fixture, compressed as receivers do and sealed by one key.

``.venv/bin/python -m bench.sealing``. Payloads are not sealed yet: this is what it would cost.
"""

import json
import time
from pathlib import Path
from statistics import median

import zstandard

from hookstream.codecs.sealing import DataKey
from tests.support import ROOT

FIXTURES = ROOT / "tests/unit/providers/fixtures"
ROUNDS = 50


def payloads() -> list[bytes]:
    """The fixtures' files, compressed one by one."""
    pack = zstandard.ZstdCompressor(level=3)
    return [pack.compress(path.read_bytes()) for path in sorted(Path(FIXTURES).rglob("*.json"))]


def main() -> None:
    """Print microseconds an event, the median of rounds over all fixtures."""
    key = DataKey(bytes(range(32)), bytes(40))
    bodies = payloads()
    ids = [b"%032x" % number for number in range(len(bodies))]
    seal, unseal = [], []
    for _ in range(ROUNDS):
        begun = time.process_time()
        sealed = [key.seal(body, name) for body, name in zip(bodies, ids, strict=True)]
        between = time.process_time()
        for one, name in zip(sealed, ids, strict=True):
            key.open(one, name)
        seal.append((between - begun) / len(bodies) * 1e6)
        unseal.append((time.process_time() - between) / len(bodies) * 1e6)
    print(
        json.dumps(
            {
                "fixtures": len(bodies),
                "median_bytes": median(map(len, bodies)),
                "added_bytes": len(sealed[0]) - len(bodies[0]),
                "seal_us": round(median(seal), 2),
                "open_us": round(median(unseal), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
