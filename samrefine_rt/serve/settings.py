"""Settings of the server: what it accepts, how long it waits, and who may ask."""

from __future__ import annotations

from dataclasses import dataclass

from samrefine_runtime.settings import Settings, real, whole

_MEGA = 1_000_000

_MOST_MEGAPIXELS = 2147
"""What run lengths can count, see `inputs.MAX_MEGAPIXELS`."""


@dataclass(frozen=True)
class Limits(Settings):
    """How much the server takes on at once."""

    queue: int = whole(16, 1, 1000, help="Requests that may wait or run; others are told to retry.")
    """Requests that are accepted at once; further ones get 503 and Retry-After."""
    timeout: float = real(
        100, 0, 86_400, is_open=True, help="Seconds after which a request is given up."
    )
    """Seconds from the arrival of a request to its answer, waiting included; then 504."""
    max_megabytes: int = whole(32, 1, 1000, help="Largest request, million bytes.")
    """Million bytes of a request's body, and of an image that a task names."""
    max_megapixels: int = whole(32, 1, _MOST_MEGAPIXELS, help="Largest image, million pixels.")
    """Million pixels of an image; it holds beside SAMREFINE_MAX_MEGAPIXELS."""
    cache_mb: int = whole(
        64, 0, _MEGA, help="Memory for embeddings of images that were asked about, MB."
    )
    """MB of image embeddings that are kept, 4 MB each with SAM's own; one is always kept."""

    @property
    def max_bytes(self) -> int:
        """Bytes of a request's body."""
        return self.max_megabytes * _MEGA

    @property
    def max_pixels(self) -> int:
        """Pixels of an image."""
        return self.max_megapixels * _MEGA

    @property
    def cache_bytes(self) -> int:
        """Bytes of image embeddings that are kept."""
        return self.cache_mb * _MEGA


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    token: str | None = None
    """What requests must present; None for nothing."""
    hosts: tuple[str, ...] = ()
    """Names by which the server is called, beside localhost and any IP address."""
