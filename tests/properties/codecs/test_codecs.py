"""Noise, from which there is nothing to learn."""

from hypothesis import given
from hypothesis import strategies as st

from hookstream.codecs.training import try_dictionary


@given(st.lists(st.binary(min_size=64, max_size=300), min_size=32, max_size=60, unique=True))
def test_noise_is_no_reason_to_keep_a_dictionary(samples: list[bytes]) -> None:
    trial = try_dictionary(samples, None)
    assert trial is None or trial.dictionary.content.startswith(b"\x37\xa4\x30\xec")
