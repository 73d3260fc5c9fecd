"""Descriptions of the archives: one YAML file each in ``catalogs/``, no code.

A provider says where items are, how our band names map to its assets, and which rule turns stored numbers into
physical units. The files ship inside the wheel; a path to a YAML file of one's own works wherever a name does.
"""

from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mapper.errors import SpecError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MaskRule(_Part):
    """Which pixels of an item are not to be used."""

    asset: str
    rule: Literal["classes", "above"]
    """``classes``: a pixel whose value is listed is bad; ``above``: a pixel greater than ``limit`` is bad."""
    classes: tuple[int, ...] = ()
    limit: float = 0
    nodata: int | None = None
    """Value of the mask itself that means no data; such pixels are bad too."""


class CollectionRule(_Part):
    """How one collection is read."""

    bands: dict[str, str] = Field(min_length=1)
    """Our band name (B02, vv, agb) to the asset key."""
    units: str
    """CF units after calibration: ``1`` for reflectance, ``dB``, ``Mg ha-1``."""
    calibration: Literal["sentinel-2", "linear-power", "decibel", "identity"]
    """``sentinel-2``: reflectance from digital numbers, the offset decided per item; ``linear-power``: gamma0 to dB;
    ``decibel``: already dB; ``identity``: already physical."""
    dtype: str
    nodata: float | None
    """Stored value that means no data; None where every value is real."""
    mask: MaskRule | None = None
    zero_is_border: bool = False
    """Stored zeros are borders, not measurements (Sentinel-1)."""
    reducer: Literal["median", "mean"] = "median"
    resampling: Literal["nearest", "bilinear", "cubic"] = "bilinear"


class Provider(_Part):
    """One archive."""

    name: str
    title: str
    kind: Literal["api", "static"]
    endpoint: str | None = None
    """STAC API root, or static ``catalog.json``; a map's ``catalog.href`` goes first."""
    signing: Literal["none", "planetary-computer"] = "none"
    licence: str
    attribution: str
    collections: dict[str, CollectionRule]

    def rule(self, collection: str) -> CollectionRule:
        """The rule of one collection.

        Raises:
            SpecError: If the provider does not describe it.
        """
        if collection not in self.collections:
            raise SpecError(f"unknown collection {collection!r}: {self.name} has {', '.join(sorted(self.collections))}")
        return self.collections[collection]

    @cached_property
    def assets(self) -> dict[str, frozenset[str]]:
        """Asset keys that mapper ever reads, by collection."""
        return {
            name: frozenset(rule.bands.values()) | ({rule.mask.asset} if rule.mask else set())
            for name, rule in self.collections.items()
        }


def provider_names() -> list[str]:
    """Names of the providers that ship with mapper."""
    return sorted(path.name.removesuffix(".yaml") for path in _catalogs().iterdir() if path.name.endswith(".yaml"))


def load_provider(name: str) -> Provider:
    """Load a provider by name, or from a path that ends in ``.yaml``.

    Raises:
        SpecError: If there is no such provider or its file is wrong.
    """
    try:
        text = (
            Path(name).read_text() if name.endswith((".yaml", ".yml")) else (_catalogs() / f"{name}.yaml").read_text()
        )
        return Provider.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise SpecError(f"unknown provider {name!r}: mapper ships {', '.join(provider_names())}") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise SpecError(f"provider {name!r} is not valid: {' '.join(str(error).split())}") from error


def _catalogs() -> Path:
    """The catalogs directory: inside an installed wheel, else at the top of the checkout."""
    package = Path(str(resources.files("mapper")))
    installed = package / "catalogs"
    return installed if installed.is_dir() else package.parent / "catalogs"
