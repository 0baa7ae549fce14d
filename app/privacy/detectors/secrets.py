"""Secrets and tokens: by the forms that their makers document, and by the names of their fields."""

# ruff: noqa: E501 (patterns: a line says what belongs together)

import re
from collections.abc import Iterator
from typing import Final

from hookstream.app.privacy.detector import Place, Span

__all__ = ["Secrets"]

#: Kind, what it looks like, and what of it is in a payload's bytes all the same, for RE2.
#: docs.aws.amazon.com (unique ids of IAM), docs.github.com (token formats), docs.gitlab.com (token
#: prefixes), api.slack.com (token types), docs.stripe.com (keys), cloud.google.com, RFC 7519, RFC 7468.
_FORMS: Final = (
    ("secret.aws", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])", "(?:AKIA|ASIA)[0-9A-Z]{16}"),
    (
        "secret.github",
        r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,255})",
        "gh[pousr]_[A-Za-z0-9]{36}|github_pat_",
    ),
    ("secret.gitlab", r"(?<![A-Za-z0-9_])gl(?:pat|ptt|dt|rt|cbt|soat)-[A-Za-z0-9_.-]{20,300}", "gl(?:pat|ptt|dt|rt|cbt|soat)-"),
    (
        "secret.slack",
        r"(?<![A-Za-z0-9_])(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,250}"
        r"|hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,200}",
        "xox[abeoprs]-|xapp-|hooks.slack.com/(?:s|w)",
    ),
    (
        "secret.stripe",
        r"(?<![A-Za-z0-9_])(?:[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9+/=]{20,100})",
        "[rs]k_(?:live|test)_|whsec_",
    ),
    (
        "secret.google",
        r"(?<![A-Za-z0-9_-])(?:AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,500}|GOCSPX-[0-9A-Za-z_-]{20,40})",
        r"AIza[0-9A-Za-z_-]{35}|ya29\.|GOCSPX-",
    ),
    (
        "secret.ai",
        r"(?<![A-Za-z0-9_-])(?:sk-(?:ant|proj|svcacct)-[A-Za-z0-9_-]{20,250}|sk-[A-Za-z0-9]{48}|hf_[A-Za-z]{34})(?![A-Za-z0-9])",
        "sk-(?:ant|proj|svcacct)-|sk-[A-Za-z0-9]{48}|hf_[A-Za-z]{34}",
    ),
    (
        "secret.jwt",
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,4000}+\.eyJ[A-Za-z0-9_-]{5,8000}+\.[A-Za-z0-9_-]{0,2000}+",
        r"eyJ[A-Za-z0-9_-]{10,}\.eyJ",
    ),
    (
        "secret.private_key",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?!•)(?:[^-]{0,20000}+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?",
        "-----BEGIN",
    ),
    ("secret.url", r"(?<=://)[^/\s:@\"'?#]{0,100}:[^/\s@\"']{1,200}(?=@)", r"//[^/\s:@\"]{0,100}:[^/\s@\"]{1,200}@"),
)  # fmt: skip
_ALL: Final = tuple((kind, re.compile(pattern)) for kind, pattern, _ in _FORMS)
_FIELD: Final = re.compile(
    r"(?:\w+_)?(?:password|passwd|passphrase|pwd|passcode|secret|client_secret|secret_key|api_?key|api_?secret"
    r"|private_key|signing_key|encryption_key|secret_access_key|authorization"
    r"|(?:access|refresh|auth|bearer|session|id|verification|api|oauth|bot|user|secret)_token)"
)
#: In a text: what follows such a word.
_SAID: Final = re.compile(
    r"(?i)(?<![A-Za-z])(?:password|passwort|passwd|contraseña|mot de passe|senha|hasło"
    r"|api[_ -]?key|client[_ -]?secret|access[_ -]?token|bearer)"
    r"(?:\s{0,3}(?:is|ist|es|est|é|:|=)\s{0,3}|\s)[\"'`]?(?=[^\s\"'`]{0,60}[0-9])([^\s\"'`,;]{8,200})"
)
_WORDS: Final = "true|false|null|none|redacted|hidden"
_NONE: Final = re.compile(rf"(?i)(?:{_WORDS})|[*•x.]+|\[?(?:filtered|redacted)\]?")


class Secrets:
    """Forms anywhere, and the whole value of a field whose name says that it is one."""

    kinds = frozenset({*(kind for kind, _ in _ALL), "secret.field"})
    rank = 0
    texts = (
        "|".join(candidates for _, _, candidates in _FORMS)
        + r"|(?i:passwor[dt]|passwd|contrase|mot de passe|senha|has\xc5\x82o|api[_ -]?key"
        r"|client[_ -]?secret|access[_ -]?token|bearer)(?:\s{0,3}(?:is|ist|es|est|\xc3\xa9|:|=)\s{0,3}|\s)"
    )
    names = (
        r"(?i:(?:passw(?:or)?d|passphrase|passcode|pwd|secret"
        r"|(?:api|private|secret|signing|encryption|access)[_-]?key|authorization)\\?[\"']\s*:\s*\\?\")"
        r"|(?:_token|[a-z]Token)\\?\"\s*:\s*\\?\""
    )

    def concerns(self, place: Place) -> bool:
        """By its name."""
        return _FIELD.fullmatch(place.field) is not None

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if len(text) < 4 or place.number:
            return
        if _FIELD.fullmatch(place.field) and " " not in text and not _NONE.fullmatch(text):
            yield Span(0, len(text), "secret.field")
            return
        for kind, pattern in _ALL:
            for found in pattern.finditer(text):
                yield Span(found.start(), found.end(), kind)
        for found in _SAID.finditer(text):
            if not _NONE.fullmatch(found[1]):
                yield Span(found.start(1), found.end(1), "secret.field")
