"""The application object: ``from hookstream.app.main import app``."""

from hookstream.app.application import Hookstream
from hookstream.app.settings import load_settings

__all__ = ["app"]

app = Hookstream(load_settings())
