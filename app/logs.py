"""What is logged: our own words from the set level on, the libraries' from warning on."""

from typing import Any

__all__ = ["logging_config"]


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
            "hookstream.app.hookstream": {"level": "WARNING"},
            "hookstream.app.web.server": {"level": "WARNING"},
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
    }
