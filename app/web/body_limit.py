"""How large a webhook's body may be, and how much of large ones a process holds at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hookstream.app.errors import UnavailableError
from hookstream.app.providers import Provider
from hookstream.app.settings import Settings

__all__ = ["LARGE_BYTES", "LargeBodies", "Room", "most_bytes"]

#: Of all bodies in hand together, what they have beyond what any body may have.
LARGE_BYTES: Final = 128 * 1024 * 1024
DEFAULT: Final[int] = Settings.model_fields["max_body_bytes"].default


def most_bytes(settings: Settings, provider: Provider) -> int:
    """The largest body that is taken of a provider.

    The setting, or what the provider's own senders send where that is more. Who has set less than
    the default wants less, of everybody.
    """
    if settings.max_body_bytes < DEFAULT:
        return settings.max_body_bytes
    return max(settings.max_body_bytes, provider.max_body_bytes)


class LargeBodies:
    """What bodies have beyond the setting's bytes, of all requests of a process together.

    Who sends is not known before the whole body has been verified: without this anybody could fill
    the memory with bodies that few senders may send.
    """

    def __init__(self, settings: Settings, most: int = LARGE_BYTES) -> None:
        self._settings = settings
        self._left = most

    @contextmanager
    def room(self) -> Iterator["Room"]:
        """For one request's body, until it is through."""
        room = Room(self)
        try:
            yield room
        finally:
            self._left += room.taken

    def take(self, size: int, taken: int) -> int:
        """What a body of ``size`` bytes takes that has ``taken`` so much already."""
        wanted = max(taken, size - self._settings.max_body_bytes)
        if wanted - taken > self._left:
            raise UnavailableError("too many large webhooks are in hand here: send it again")
        self._left -= wanted - taken
        return wanted


class Room:
    """What one body takes of :class:`LargeBodies`."""

    def __init__(self, bodies: LargeBodies) -> None:
        self._bodies = bodies
        self.taken = 0

    def hold(self, size: int) -> None:
        """The body has ``size`` bytes by now. Raises UnavailableError: there is no room for it."""
        self.taken = self._bodies.take(size, self.taken)
