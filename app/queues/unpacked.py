"""What comes out of a message of a queue, or a record of a topic."""

from dataclasses import dataclass, replace

from hookstream.app.providers import Provider
from hookstream.app.providers.provider import UNKNOWN, event_name, short_id
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["Unpacked"]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A webhook out of a message; type and delivery id as the message has them beside it, or ""."""

    hook: WebhookRequest
    event_type: str = ""
    delivery_id: str = ""

    def row(self, provider: Provider) -> Provider:
        """Its provider's row, which takes from the message what the webhook does not say itself."""

        def event_type(request: WebhookRequest, options: SignatureOptions) -> str:
            found = provider.event_type(request, options)
            return event_name(self.event_type) if found == UNKNOWN else found

        def delivery_id(request: WebhookRequest, options: SignatureOptions) -> str:
            return provider.delivery_id(request, options) or short_id(self.delivery_id)

        if not (self.event_type or self.delivery_id):
            return provider
        return replace(provider, event_type=event_type, delivery_id=delivery_id)
