"""Which addresses we may call on an operator's word: none inside their own network by default.

Server-side request forgery: an address that a setting names must not reach what only this machine
can reach (cloud metadata, databases, neighbours). Checked is what is connected to, not what a name
said a moment before.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from yarl import URL

__all__ = ["check_public", "check_url", "is_public"]

_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Whether an IP address is of the public internet, whichever IPv6 form it hides in."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def check_url(text: str, *, allow_private: bool) -> URL:
    """The address to call.

    Raises:
        ValueError: it is not one, or not a public one; the message says what to set.
    """
    url = URL(text)
    if not url.host or url.scheme not in ("https", "http") or url.user or url.password:
        raise ValueError("an address such as https://alerts.example.com/hook, without credentials")
    if allow_private:
        return url
    if url.scheme != "https":
        raise ValueError("must be https unless HOOKSTREAM_ALERT_ALLOW_PRIVATE is set")
    try:
        literal = is_public(url.host)
    except ValueError:
        return url
    if not literal:
        raise ValueError(_refusal(url.host))
    return url


def check_public(address: str) -> None:
    """Raises ValueError where an IP address is not public; the message says what to set."""
    if not is_public(address):
        raise ValueError(_refusal(address))


def _refusal(address: str) -> str:
    return (
        f"{address} is not a public address: set HOOKSTREAM_ALERT_ALLOW_PRIVATE=true if that is "
        "meant"
    )
