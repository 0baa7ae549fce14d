"""What is logged: our own words from the set level on, the libraries' from warning on."""

from typing import Any

from mode.utils.logging import CompositeLogger

__all__ = ["QuietLogger", "logging_config"]


class QuietLogger(CompositeLogger):
    """An agent's logger that asks whether a line is wanted before it puts it together."""

    def log(self, severity: int, message: str, *args: Any, **kwargs: Any) -> None:
        """Log as Mode does; Faust has a line for each batch of each stage, and few want those."""
        if self.logger.isEnabledFor(severity):
            # one frame more between the caller and the record
            level = kwargs.pop("stacklevel", 2) + 1
            super().log(severity, message, *args, stacklevel=level, **kwargs)


def logging_config(level: str) -> dict[str, Any]:
    """A configuration for ``logging.config.dictConfig``: one line an event, to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"}
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        },
        "loggers": {
            "hookstream": {"level": level.upper()},
            # here Faust itself speaks, of Kafka's producer buffer and the like
            "hookstream.app.application": {"level": "WARNING"},
            "hookstream.app.web.server": {"level": "WARNING"},
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
    }
