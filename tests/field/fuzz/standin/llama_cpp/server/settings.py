"""The settings."""

from types import SimpleNamespace as ModelSettings
from types import SimpleNamespace as ServerSettings

__all__ = ["ModelSettings", "ServerSettings"]
