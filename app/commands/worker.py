"""``hookstream worker``: Faust's worker command, with a banner that speaks of our servers."""

import os
from typing import Any

from faust.cli.worker import worker as faust_worker

from hookstream import __version__
from hookstream.app.settings import http_address

__all__ = ["shown", "worker"]


class worker(faust_worker):  # noqa: N801 Faust names a command by its class
    """Start a worker: the pipeline, and the HTTP server unless --without-web."""

    #: What a stage prints would be a warning for each part of it: this counts before the setting.
    redirect_stdouts = False

    def _banner_title(self) -> str:
        return f"Hookstream v{__version__} on {self.faust_ident()}"

    def _banner_data(self, worker: Any) -> list[tuple[str, str]]:
        settings = self.app.settings
        rows = [
            ("redis", shown(settings.redis_url)),
            ("postgres", shown(settings.postgres_url)),
            ("partitions", str(settings.partitions)),
            ("state", str(settings.state_path)),
            ("pid", str(os.getpid())),
            ("loop", type(worker.loop).__module__),
        ]
        if self.app.conf.web_enabled:
            conf = self.app.conf
            rows.insert(0, ("web", http_address(conf.web_bind, conf.web_port)))
            if settings.admin_port:
                rows.insert(1, ("admin", settings.api_address))
        return rows


def shown(url: str) -> str:
    """A server's URL without its password."""
    scheme, mark, rest = url.partition("://")
    # a password may have an @ itself: all up to the last one is the login
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon else ''}{at}{place}"
