"""What comes out of a message of a queue, or a record of a topic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hookstream.app.errors import BadRequestError
from hookstream.app.providers import Provider
from hookstream.app.providers.provider import MAX_ID_CHARS, UNKNOWN, event_name, short_id
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

    def check(self, provider: Provider, options: SignatureOptions) -> None:
        """Refuse a delivery id that cannot be kept, which would be lost without a word.

        ``provider``: the row of :meth:`row`. Raises BadRequestError.
        """
        odd = _odd([(self.delivery_id,), *self.hook.headers.values()])
        if not odd or provider.delivery_id(self.hook, options):
            return
        # whose headers a provider looks at is for its rules to say
        shown = {
            name: ("x",) if _odd([values]) else values for name, values in self.hook.headers.items()
        }
        hook = replace(self.hook, headers=shown)
        if self.delivery_id or provider.delivery_id(hook, options):
            raise BadRequestError(
                f"its delivery id is none: at most {MAX_ID_CHARS} printable characters"
            )


def _odd(headers: Iterable[Sequence[str]]) -> bool:
    """Whether there is a value that no delivery id can be."""
    return any(short_id(value) != value for values in headers for value in values)
