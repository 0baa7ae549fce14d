"""Bodies of the API are read strictly, and what is wrong with them is said in short."""

import json
from typing import Any
from unittest import mock

import pytest
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request
from pydantic import BaseModel

from hookstream.app.errors import BadRequestError, PayloadTooLargeError
from hookstream.app.settings import Settings
from hookstream.app.web.access import MAX_MODEL_BYTES, read_model
from hookstream.app.web.models.comparison import ResultsIn
from hookstream.app.web.models.feeds import AckIn
from hookstream.app.web.models.tools import ToolIn
from hookstream.app.web.wrong_fields import MAX_PROBLEMS


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


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        (
            ResultsIn,
            {"results": [{"finished_at": "2026-11-30T12:00:00"}]},
            "results.0.finished_at: Input should have timezone info; wanted is a time with its",
        ),
        (
            ResultsIn,
            {"results": [{"finished": 1}]},
            "results.0.finished: there is no such field: did you mean finished_at?",
        ),
        (ResultsIn, {"results": [{}]}, "results.0.finished_at: Field required; wanted is a time"),
        (
            ResultsIn,
            {"results": [{"finished_at": "2026-11-30T12:00:00Z", "contexts": ["a", "`"]}]},
            "wanted is a list of ids of contexts here",
        ),
        (ResultsIn, {"results": [1]}, "results.0: Input should be an object"),
        (
            ToolIn,
            {"provider": "none", "dedup": {"stratgy": "payload"}},
            "dedup.stratgy: there is no such field: did you mean strategy?",
        ),
    ],
)
async def test_what_is_allowed_is_said_of_fields_within_others_too(
    model: type[BaseModel], body: Any, said: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await read_model(Settings(), request(json.dumps(body).encode()), model)
    assert said in str(caught.value)
