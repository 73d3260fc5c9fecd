"""Beliefs about files: what an item and its collection say of one band of one file, before it is opened."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from affine import Affine

from mapper.catalog.items import ItemDict
from mapper.catalog.provider import CollectionRule
from mapper.cube.calibrate import decide, missing_values
from mapper.cube.declaration import ListedBands, list_bands, read_declaration
from mapper.cube.projection import declared_crs, declared_grid
from mapper.errors import SpecError

_MASK = "the mask"


@dataclass(frozen=True, kw_only=True)
class Belief:
    """Statements of item and collection on one band of one file; None and empty where they are silent."""

    band: str = ""
    """Our name of the band; empty for a mask."""
    wanted: int | str | None = None
    """Number, from 1, or name of the band, by the collection."""
    listed: ListedBands = field(default_factory=ListedBands)
    """Bands that the item lists for the asset."""
    neighbours: tuple[str, ...] = ()
    """Our names of other bands that are read from the same asset of the item."""
    data_bands: frozenset[int] = frozenset()
    """Numbers of bands of the file that the collection reads as data."""
    missing: tuple[float, ...] = ()
    """Stored values that are no measurements."""
    takes_nodata: bool = True
    """True where a value that the file's header calls no data is missing too."""
    scale: float | None = None
    offset: float | None = None
    dtype: str | None = None
    crs: str | None = None
    transform: Affine | None = None
    shape: tuple[int, int] | None = None
    vertical_datum: str = ""
    """Vertical datum of heights; empty where the collection names none, and for what is no height."""
    trust: str = "none"
    """Whose word counts where the file contradicts; ``none`` refuses the file."""

    @property
    def trusted_crs(self) -> str | None:
        """CRS that counts where the file names none; None for a mask, and where the item is not trusted."""
        return self.crs if self.band and self.trust == "declaration" else None


def believe_band(item: ItemDict, rule: CollectionRule, band: str) -> Belief:
    """Return what an item and its collection say of one of our bands; codes of classes are taken as they are stored.

    Args:
        item: STAC item that holds the band.
        rule: How its collection is read.
        band: Our band name.

    Raises:
        SpecError: If the calibration of the item cannot be decided.
    """
    where = rule.bands[band]
    listed = list_bands(item, where.asset)
    declared = read_declaration(item, where.asset, trust=rule.trust, band=where.band or band)
    scale, offset = declared.scale, declared.offset
    if rule.calibration == "sentinel-2" or where.classes:
        calibration = decide(item, rule, band)
        scale, offset = calibration.scale, calibration.offset
    near = _read_from(item, rule, where.asset)
    crs, transform, shape = _believe_place(item, where.asset)
    return Belief(
        band=band,
        wanted=where.band,
        listed=listed,
        neighbours=_list_neighbours(rule, near, band),
        data_bands=frozenset(number for number in near.values() if isinstance(number, int)),
        missing=missing_values(item, rule, band),
        takes_nodata=rule.trust != "declaration",
        scale=rule.scale if scale is None and rule.scale != 1 else scale,
        offset=rule.offset if offset is None and rule.offset != 0 else offset,
        dtype=declared.dtype,
        crs=crs,
        transform=transform,
        shape=shape,
        vertical_datum=(rule.vertical_datum or "") if rule.may_be_height(band) else "",
        trust="declaration" if where.classes else rule.trust,
    )


@dataclass(frozen=True, kw_only=True)
class Beliefs:
    """Beliefs about the files of one collection, each made once."""

    rule: CollectionRule
    _made: dict[tuple[str, str], Belief] = field(default_factory=dict, repr=False, compare=False)

    def of_bands(self, item: ItemDict, band: str, order: Iterable[str]) -> tuple[Belief, ...]:
        """Return what is said of a band, then of those that are read from the same file after it.

        Args:
            item: STAC item that holds the band.
            band: Our band name.
            order: Our names of all bands that are read, in that order.
        """
        asset, names = self.rule.bands[band].asset, list(order)
        later = names[names.index(band) + 1 :] if band in names else []
        return tuple(self._of(item, name) for name in (band, *later) if self.rule.asset(item, name) == asset)

    def of_mask(self, item: ItemDict) -> tuple[Belief, ...]:
        """Return what is said of the mask."""
        return (believe_mask(item, self.rule),)

    def _of(self, item: ItemDict, band: str) -> Belief:
        key = item["id"], band
        if key not in self._made:
            self._made[key] = believe_band(item, self.rule, band)
        return self._made[key]


def believe_mask(item: ItemDict, rule: CollectionRule) -> Belief:
    """Return what an item and its collection say of the mask, whose numbers are taken as they are stored.

    What a file of classes calls no data is missing. Shares and flags have no such value unless the collection says so:
    archives tag files of cloud probabilities, and of bits, with a no data of 0, which is a clear pixel.
    """
    mask = rule.mask
    if mask is None:
        return Belief()
    crs, transform, shape = _believe_place(item, mask.asset)
    near = _read_from(item, rule, mask.asset)
    return Belief(
        wanted=mask.band,
        listed=list_bands(item, mask.asset),
        neighbours=_list_neighbours(rule, near, _MASK),
        data_bands=frozenset(number for number in near.values() if isinstance(number, int)),
        missing=() if mask.nodata is None else (float(mask.nodata),),
        takes_nodata=mask.rule == "classes",
        scale=1.0,
        offset=0.0,
        crs=crs,
        transform=transform,
        shape=shape,
        trust="declaration",
    )


def _read_from(item: ItemDict, rule: CollectionRule, asset: str) -> dict[str, int | str | None]:
    """Return what is read from an asset of an item: our names, and the numbers or names of their bands in its file."""
    near = {name: each.band for name, each in rule.bands.items() if rule.asset(item, name) == asset}
    return near | ({_MASK: rule.mask.band} if rule.mask is not None and rule.mask.asset == asset else {})


def _list_neighbours(rule: CollectionRule, near: dict[str, int | str | None], band: str) -> tuple[str, ...]:
    """Return the names of other bands that an asset must hold; indicators look at the very band that others read."""
    indicators = {name for name in near if name in rule.bands and rule.bands[name].classes}
    return tuple(
        name
        for name, number in near.items()
        if name != band and not (number == near[band] and ({name, band} & indicators))
    )


def _believe_place(item: ItemDict, asset: str) -> tuple[str | None, Affine | None, tuple[int, int] | None]:
    """Return CRS, transform and shape that an item declares; None for what is none: files know where they lie."""
    try:
        crs, grid = declared_crs(item, asset), declared_grid(item, asset)
    except SpecError:
        return None, None, None
    code = None if crs is None else crs.srs
    return (code, None, None) if grid is None else (code, grid.transform, grid.shape)
