"""What every route is given: the store's versions and how the server is set up."""

from dataclasses import dataclass

from fastapi import Request

from mapper.serve.settings import AppSettings
from mapper.serve.versions import Versions


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served, and how."""

    versions: Versions
    settings: AppSettings

    def base_url(self, request: Request) -> str:
        """Where clients reach the server, without a slash at the end."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")

    def say_caching(self, *, fixed: bool) -> str:
        """``Cache-Control`` of an answer: a snapshot's is kept for ever, any other is asked again.

        What a token protects is not for caches that others share.
        """
        if not fixed:
            return "no-cache"
        return f"{'private' if self.settings.token else 'public'}, max-age=31536000, immutable"
