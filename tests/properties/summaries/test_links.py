"""Links of strangers, in each field that templates, models and facts of every provider show."""

import json

from hookstream.app.providers import PROVIDERS
from hookstream.app.summaries.model import read_reply
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.summaries.templates import TemplateBook, compile_template
from hookstream.app.testing import make_event
from tests.unit.summaries.test_links import EVIL, LINKS, leads


def test_templates_models_and_facts_lead_nowhere() -> None:
    source = "[docs](https://wiki.acme.com) {{ payload.a }}{{ payload.b }} {{ payload.title }}"
    book = TemplateBook({"none": [compile_template("*", source)]})
    for text in LINKS:
        payload = {"title": text, "a": "![x]", "b": f"({EVIL})", "sender": {"login": text}}
        for provider in PROVIDERS:
            for summaries in (Summariser(), Summariser(book)):
                event = make_event(payload, provider=provider, type="pull_request.opened")
                summary = summaries.summarise(event)
                assert leads(summary.text) == []
                assert all(leads(str(value)) == [] for value in summary.facts.values())
        reply = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        assert leads(read_reply(reply)) == []
