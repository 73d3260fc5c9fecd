"""The identity of what is made: digests of all that decides a pixel."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol


class HasDigests(Protocol):
    """An object that holds the digests of an identity, each in a field of its own."""

    @property
    def spec_digest(self) -> str:
        """Digest of the map description."""

    @property
    def grid_digest(self) -> str:
        """Digest of the grid."""

    @property
    def model_digest(self) -> str:
        """Digest of the model."""

    @property
    def items_digest(self) -> str:
        """Digest of the items."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Digests of a product, of one of its tiles, or of a plan; empty where nothing of the kind is used."""

    spec: str = ""
    """Sha256 of all in the map description that can change a pixel."""
    grid: str = ""
    """Sha256 of all that decides where a pixel lies."""
    model: str = ""
    """Sha256 of weights and card."""
    items: str = ""
    """Sha256 over the digests of items."""

    @classmethod
    def of(cls, made: HasDigests) -> "Identity":
        """Return the identity of an object that holds the digests as fields, such as a record."""
        return cls(spec=made.spec_digest, grid=made.grid_digest, model=made.model_digest, items=made.items_digest)

    def to_fields(self) -> dict[str, str]:
        """Return the digests by the names that records and plan files have for them."""
        return {f"{name}_digest": digest for name, digest in asdict(self).items()}

    def differences(self, other: "Identity") -> Mapping[str, tuple[str, str]]:
        """Return what differs by name, as a pair of the digest here and the other."""
        theirs = asdict(other)
        return {name: (mine, theirs[name]) for name, mine in asdict(self).items() if mine != theirs[name]}
