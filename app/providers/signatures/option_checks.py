"""What is looked at when options are set: names that nobody knows, and what would do nothing.

A tool that is kept already is not asked: it goes on, whatever would be refused of it by now.
"""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.named_challenge import HEADER_NAME
from hookstream.app.providers.signatures.options import BODILESS, SignatureOptions
from hookstream.app.providers.signatures.template import compile_template

__all__ = ["check_answer_options", "check_scheme_options", "read_options"]

_UNSET = SignatureOptions()


def read_options(given: Mapping[str, Any]) -> SignatureOptions:
    """Options by name.

    Raises:
        BadRequestError: one that there is not, or a value that cannot be used; it is named.
    """
    names = [field.name for field in fields(SignatureOptions)]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name[:64].lower(), names, 3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise BadRequestError(
                f"options.{name[:64]}: there is no such option; {hint}docs/providers.md says which "
                "a provider reads"
            )
    return SignatureOptions(**given)


def check_answer_options(options: SignatureOptions) -> None:
    """Refuse what no answer of the status has. Raises BadRequestError."""
    for name in ("answer_body", "answer_type"):
        if options.answer_status in BODILESS and getattr(options, name):
            raise BadRequestError(
                f"options.{name}: an answer {options.answer_status} has no body: leave it out, or "
                "answer 200"
            )


def check_scheme_options(options: SignatureOptions, header: str) -> None:
    """Refuse what the scheme does not read, beside what else is set, and what never verifies.

    ``header``: the provider's own, with the signature where no other place is named.

    Raises:
        BadRequestError: with the option, and what to do.
    """
    scheme = options.scheme(header)
    elsewhere = "signature_field" if scheme.field else "signature_query" if scheme.query else ""
    if options.header and elsewhere:
        raise BadRequestError(
            f"options.header: nothing reads it, for {elsewhere} says where the signature stands: "
            "leave out one of them"
        )
    if options.prefix and options.signature_name:
        raise BadRequestError(
            "options.prefix: nothing reads it, for signature_name says which part of a list is the "
            "signature: leave out one of them"
        )
    if not scheme.has_time:
        for name in ("tolerance_seconds", "timestamp_unit"):
            if getattr(options, name) != getattr(_UNSET, name):
                raise BadRequestError(
                    f"options.{name}: no time is signed: put {{timestamp}} into signed, and say "
                    "where it stands (timestamp_name, timestamp_header or timestamp_field)"
                )
    for name in ("timestamp_header", "id_header"):
        if (found := getattr(options, name)) and found.lower() == scheme.header.lower():
            raise BadRequestError(f"options.{name}: the signature stands there: name another")
    for part in compile_template(options.signed):
        if isinstance(part, tuple):
            _check_part(part, scheme)


def _check_part(part: tuple[str, str], scheme: HmacScheme) -> None:
    name, place = part
    if name == "header" and not HEADER_NAME.fullmatch(place):
        raise BadRequestError(f"options.signed: in {{header:{place}}} is no name of a header")
    if scheme.field:
        own = part in (("body", ""), ("field", scheme.field))
    elif scheme.query:
        own = name in ("url", "decoded_url", "path") or part == ("query", scheme.query)
    else:
        own = name == "header" and place.lower() == scheme.header.lower()
    if own:
        text = f"{name}:{place}" if place else name
        raise BadRequestError(
            f"options.signed: {{{text}}} has the signature in it, which cannot sign itself: name "
            "what else is signed, as {field:PATH}, {query:NAME} or {body}"
        )
