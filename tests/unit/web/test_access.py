"""Bodies of the API are read strictly, and what is wrong with them is said in short."""

import json
from unittest import mock

import pytest
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request

from hookstream.app.errors import BadRequestError, PayloadTooLargeError
from hookstream.app.settings import Settings
from hookstream.app.web.access import MAX_MODEL_BYTES, MAX_PROBLEMS, read_model
from hookstream.app.web.models.feeds import AckIn


def request(body: bytes) -> Request:
    content = StreamReader(mock.Mock(), 2**16)
    content.feed_data(body)
    content.feed_eof()
    return make_mocked_request("POST", "/", payload=content)


async def test_of_many_problems_the_first_are_said() -> None:
    body = json.dumps({f"a{number}" + "b" * 50: 1 for number in range(15_000)}).encode()
    assert len(body) < MAX_MODEL_BYTES
    with pytest.raises(BadRequestError) as caught:
        await read_model(Settings(), request(body), AckIn)
    assert str(caught.value).count("no such field") == MAX_PROBLEMS - 1
    with pytest.raises(PayloadTooLargeError):
        await read_model(Settings(), request(body + b" " * MAX_MODEL_BYTES), AckIn)
