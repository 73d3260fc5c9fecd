"""Seasonal medians (season, band, y, x) float32 by every route, and the floor under all of them."""

from itertools import product
from pathlib import Path

import bottleneck as bn
import dask
import numpy as np
import odc.stac
import pystac
import rasterio
import stackstac
import xarray as xr
from overpasses import BANDS, MASKED
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds
from rasterio.windows import from_bounds

from mapper.catalog.items import item_datetime
from mapper.catalog.provider import load_provider
from mapper.cube.composite import compose, read_guide
from mapper.cube.read import read_block
from mapper.spec import parse_spec

SEASONS = {"winter": (12, 1, 2), "spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11)}
THREADS = 2
CHUNK = 1024

_COLLECTION = "sentinel-2-l2a"
_MARGIN = 2
"""Source pixels around the window that the floor reads."""


def mapper_block(items, tile):
    """`read_block` and `compose`, one season after the other."""
    rule = load_provider("demo").rule(_COLLECTION)
    values = np.empty((len(SEASONS), len(BANDS), *tile.shape), np.float32)
    for k, months in enumerate(SEASONS.values()):
        block = read_block(items.in_months(months), tile, bands=list(BANDS), rule=rule, threads=THREADS)
        values[k], _ = compose(block, "median")
    return values


def mapper_guide(items, tile):
    """`read_guide`: what a task does, band by band."""
    spec = parse_spec(
        {
            "name": "reading",
            "area": {"bbox": [11, 50, 13, 52]},
            "period": {"start": "2021-01-01", "end": "2022-12-31"},
            "grid": {"resolution": 10},
            "catalog": {"provider": "demo"},
            "guide": {"layers": [{"collection": _COLLECTION, "bands": list(BANDS)}], "seasons": SEASONS},
            "source": {"collection": "esa-cci-biomass", "variable": "agb", "resolution": 100},
            "model": {"name": "bicubic"},
            "store": "map.icechunk",
        },
        base=Path(),
    )
    guide = read_guide(items, tile, spec=spec, provider=load_provider("demo"), threads=THREADS)
    return guide.values.reshape(len(SEASONS), len(BANDS), *tile.shape)


def stackstac_graph(items, tile, *, median=None):
    """One stackstac graph: days mosaicked, masked, calibrated, nanmedian."""
    plain = list(items)
    options = {
        "epsg": 3035,
        "resolution": 10,
        "bounds": tile.boundingbox.bbox,
        "snap_bounds": False,
        "xy_coords": "center",
        "chunksize": CHUNK,
        "dtype": np.dtype("uint16"),
        "fill_value": np.uint16(0),
        "rescale": False,
        "sortby_date": False,
        "properties": False,
        "band_coords": False,
    }
    stored = stackstac.stack(plain, assets=list(BANDS), resampling=Resampling.bilinear, **options)
    scl = stackstac.stack(plain, assets=["SCL"], resampling=Resampling.nearest, **options)
    days = sorted(set(stored["time.date"].values))
    stored, scl = (
        xr.concat([_mosaic(stack.sel(time=stack["time.date"] == day)) for day in days], dim="time")
        for stack in (stored, scl)
    )
    stored = stored.assign_coords(time=np.array(days, "datetime64[ns]"))
    scl = scl.assign_coords(time=stored["time"])
    return _compute(_composites(stored, scl.isel(band=0, drop=True), items, median))


def odc_graph(items, tile, *, median=None):
    """One odc-stac graph: days mosaicked, masked, calibrated, nanmedian."""
    parsed = [pystac.Item.from_dict(item) for item in items]
    types = {"*": {"data_type": "uint16", "nodata": 0}, "SCL": {"data_type": "uint8", "nodata": 0}}
    dataset = odc.stac.load(
        parsed,
        bands=[*BANDS, "SCL"],
        geobox=tile,
        chunks={"x": CHUNK, "y": CHUNK},
        groupby=lambda item, parsed, _index: (parsed.solar_date_at(12.0).date().isoformat(), _shift_of(item)),
        preserve_original_order=True,
        resampling={"*": "bilinear", "SCL": "nearest"},
        stac_cfg={_COLLECTION: {"assets": types}},
    )
    stored = dataset[list(BANDS)].to_dataarray("band").transpose("time", "band", "y", "x")
    return _compute(_composites(stored, dataset["SCL"], items, median))


def odc_graph_bottleneck(items, tile):
    """The same graph with bottleneck's nanmedian: what of the difference is the reader's."""
    return odc_graph(items, tile, median=bn.nanmedian)


def floor(items, tile):
    """Open and decode the same windows, nothing else."""
    for item, asset in product(items, [*BANDS, "SCL"]):
        with rasterio.open(item["assets"][asset]["href"]) as file:
            bounds = transform_bounds(tile.crs.to_wkt(), file.crs, *tile.boundingbox.bbox, densify_pts=101)
            (top, bottom), (left, right) = from_bounds(*bounds, file.transform).toranges()
            rows = max(int(top) - _MARGIN, 0), min(int(bottom) + _MARGIN, file.height)
            cols = max(int(left) - _MARGIN, 0), min(int(right) + _MARGIN, file.width)
            if rows[0] < rows[1] and cols[0] < cols[1]:
                file.read(1, window=(rows, cols))


def _mosaic(stack):
    return stackstac.mosaic(stack, dim="time", reverse=True, nodata=0)


def _shift_of(item):
    return -1000 if float(item.properties["s2:processing_baseline"]) >= 4 else 0


def _composites(stored, scl, items, median):
    """Reflectance where it is clear, and its median over each season; (time, band, y, x) and (time, y, x)."""
    baselines = {item_datetime(item).date(): float(item["properties"]["s2:processing_baseline"]) for item in items}
    shift = [-1000 if baselines[day] >= 4 else 0 for day in stored["time.date"].values]
    shift = xr.DataArray(np.array(shift, np.float32), dims="time", coords={"time": stored["time"]})
    valid = (stored != 0) & ~scl.isin(MASKED)
    reflectance = ((stored.astype(np.float32).where(valid) + shift) * np.float32(1e-4)).clip(min=0)
    for months in SEASONS.values():
        season = reflectance.isel(time=np.isin(reflectance["time.month"], months))
        yield season.median("time") if median is None else _reduce(season, median)


def _reduce(season, median):
    def reduce(stack, axis):
        return stack.map_blocks(median, axis=axis, drop_axis=axis)

    return season.chunk({"time": -1}).reduce(reduce, "time")


def _compute(composites):
    graph = xr.concat(list(composites), dim="season").transpose("season", "band", "y", "x")
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        return graph.values
