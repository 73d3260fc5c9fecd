"""What an item says about where its pixels lie: the projection extension, in its old spelling and its new one."""

from dataclasses import dataclass

from affine import Affine
from pyproj import CRS
from rasterio.transform import array_bounds

from mapper.catalog.items import ItemDict


@dataclass(frozen=True, kw_only=True)
class Place:
    """The pixels of one asset, as declared."""

    crs: CRS
    transform: Affine
    shape: tuple[int, int]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in ``crs``."""
        left, bottom, right, top = array_bounds(*self.shape, self.transform)
        return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def declared_place(item: ItemDict, asset: str) -> Place | None:
    """Where the pixels of an asset lie; None if neither the asset nor its item declares that completely."""
    declared = item["properties"] | item["assets"].get(asset, {})
    transform, shape = declared.get("proj:transform"), declared.get("proj:shape")
    # STAC 1.1 replaced proj:epsg by proj:code; an asset's own goes first in either spelling
    own = item["assets"].get(asset, {})
    code = own.get("proj:code") or own.get("proj:epsg") or declared.get("proj:code") or declared.get("proj:epsg")
    if transform is None or shape is None or code is None:
        return None
    return Place(crs=CRS.from_user_input(code), transform=Affine(*transform[:6]), shape=(shape[0], shape[1]))
