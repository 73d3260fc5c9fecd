"""Prices of an hour, a request and a byte: one YAML file, in one currency, with its date and source.

Prices change and differ by contract, so none ship as defaults: ``deploy/prices.yaml`` is an example to copy.
"""

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mapper.description import describe_faults, read_yaml
from mapper.errors import InputError
from mapper.store.totals import Totals

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Amount in the currency of the file; 0 for what costs nothing."""


class Prices(BaseModel):
    """Prices of everything that a map uses up."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    currency: str = Field(pattern=r"^[A-Z]{3}$")
    """ISO 4217 code, for example ``EUR``."""
    date: date
    """Day on which the prices were looked up."""
    source: str = Field(min_length=1)
    """Whose prices, of which region and contract."""
    vcpu_hour: Price
    """One vCPU for one hour."""
    gpu_hour: Price
    """One GPU for one hour."""
    memory_gib_hour: Price = 0.0
    """One GiB of a worker's memory for one hour; 0 where it comes with the vCPU."""
    read_gib: Price
    """One GiB from the archives to the workers (egress)."""
    requests_1000: Price
    """A thousand GET requests."""
    stored_gib_month: Price
    """One GiB of the store for one month."""
    vcpus_per_worker: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """vCPUs that are paid for while one worker works on one tile."""
    months_stored: Price = 1.0
    """Months for which the map is stored."""


def read_prices(path: Path | str) -> Prices:
    """Read a price file.

    Raises:
        InputError: If it cannot be read, or with one clause for each fault: where, what was got, what is wrong.
    """
    content = read_yaml(path, what="price file")
    if not isinstance(content, dict):
        raise InputError(f"price file {path} is a YAML mapping of names to prices, got {type(content).__name__}")
    try:
        return Prices.model_validate(content)
    except ValidationError as error:
        known = ", ".join(sorted(Prices.model_fields))
        raise InputError(f"price file {path}: {describe_faults(error, 'prices')}; it holds {known}") from error


_GIB = 1 << 30


_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Money, in the currency of the price file."""

    currency: str
    parts: dict[str, float]
    """So far: vCPU, GPU, reading, requests, storage."""
    total: float
    per_tile: float | None
    """So far; None while no tile has come."""
    per_mkm2: float | None
    """So far, by million square kilometres."""
    whole: float | None
    """Estimate of the whole map, by what the tiles so far took on average."""

    def to_dict(self) -> dict[str, Any]:
        """Return the spending for JSON."""
        return asdict(self)


def price_totals(
    prices: Prices, totals: Totals, *, stored_bytes: int, tiles_done: int, km2_done: float, share: float
) -> Spending:
    """Price what was spent.

    Args:
        prices: Of everything.
        totals: Of the store.
        stored_bytes: Of pixels in the store, before compression.
        tiles_done: Tiles that stand, empty and failed ones too.
        km2_done: Their area.
        share: Part of all tiles that they are, 0 to 1.
    """
    cpu_s = sum(totals.seconds.get(stage, 0.0) for stage in ("read", "predict", "write")) - totals.gpu_s
    parts = {
        "vCPU": cpu_s / _HOUR * prices.vcpu_hour * prices.vcpus_per_worker,
        "GPU": totals.gpu_s / _HOUR * prices.gpu_hour,
        "reading": totals.bytes_read / _GIB * prices.read_gib,
        "requests": totals.requests / 1000 * prices.requests_1000,
        "storage": stored_bytes / _GIB * prices.stored_gib_month * prices.months_stored,
    }
    total = sum(parts.values())
    return Spending(
        currency=prices.currency,
        parts=parts,
        total=total,
        per_tile=total / tiles_done if tiles_done else None,
        per_mkm2=total / (km2_done / 1e6) if km2_done else None,
        whole=total / share if share else None,
    )
