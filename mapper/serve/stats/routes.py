"""``/stats``: sums, means, histogram and quality of a polygon."""

import asyncio
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import yaml
from fastapi import APIRouter, Body, HTTPException, Query, Response
from fastapi.concurrency import run_in_threadpool

from mapper.errors import InputError
from mapper.predict.quality import read_flags
from mapper.serve.answers import JsonAnswer
from mapper.serve.errors import describe_refusals
from mapper.serve.pixel import FLAG_MEANINGS, Ref
from mapper.serve.schemas import FlagShare, Histogram, PolygonStats, Quantity, StatsResolution
from mapper.serve.stats.pixel_area import find_pixel_areas
from mapper.serve.stats.polygon import project_polygon, read_polygon
from mapper.serve.stats.sum_uncertainty import SumSd
from mapper.serve.stats.zonal_sums import HistogramBins, PixelBounds, ZonalSums, Zone
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.layers import Layer, Layers
from mapper.serve.tiles.styles import RangeText, parse_range
from mapper.serve.versions import ServedStore
from mapper.store.why import to_plain

_WAIT_S = 5.0
_LOOK_S = 0.02
"""Seconds between looks for a free slot."""
_SHARE = 0.9
"""Part of the time of an answer that adding up may take: the rest is for what comes before and after it."""
_HECTARE = 1e-4
_PER_AREA: Mapping[str, float] = MappingProxyType({"ha-1": _HECTARE, "m-2": 1.0, "km-2": 1e-6})
"""Factors of units per area: what a value of 1 on a square metre adds to a total."""
_EDGES = "a pixel on the edge counts with the share of it that lies inside"
_EXAMPLE = {
    "type": "Polygon",
    "coordinates": [[[12.0, 50.0], [12.01, 50.0], [12.01, 50.01], [12.0, 50.01], [12.0, 50.0]]],
}

Correlation = Annotated[
    float | None,
    Query(
        ge=0,
        le=1e7,
        allow_inf_nan=False,
        description="Metres over which the correlation of errors falls to 1/e; by default that of the map's source",
    ),
]


def make_stats_router(served: ServedStore) -> APIRouter:
    """Return the route of polygons."""
    router = APIRouter(tags=["stats"], responses=describe_refusals(404, 422))
    service = _StatsService(served)

    @router.post(
        "/stats",
        summary="Sums over a polygon",
        response_model=PolygonStats,
        responses=describe_refusals(400),
    )
    async def post_stats(
        polygon: Annotated[dict[str, Any], Body(openapi_examples={"polygon": {"value": _EXAMPLE}})],
        ref: Ref = "main",
        variable: Annotated[str | None, Query(description="A value band; by default the first")] = None,
        correlation: Correlation = None,
        bins: Annotated[int, Query(ge=1, le=200, description="Classes of the histogram")] = 20,
        span: Annotated[RangeText, Query(alias="range", description="First and last edge of the histogram")] = None,
    ) -> Response:
        """Return area, area-weighted total and mean with their standard deviations, histogram and quality of a polygon.

        There is a total where the units are per area; of others, as metres, a sum means nothing.

        GeoJSON in longitude and latitude: a Polygon or MultiPolygon with holes, or a Feature with one.
        """

        def compute() -> Response:
            layer = service.find_layer(ref, variable)
            content = service.compute(polygon, layer, correlation, bins, parse_range(span, "range"))
            return JsonAnswer(to_plain(content), headers={"Cache-Control": "no-store"})

        await service.take_slot()
        try:
            return await run_in_threadpool(compute)
        finally:
            service.release_slot()

    return router


class _StatsService:
    """Statistics of polygons, few at once."""

    def __init__(self, served: ServedStore) -> None:
        self._settings = served.settings
        self._layers = Layers(served.versions, ByteCache(0))
        self._slots = threading.BoundedSemaphore(self._settings.polygons_at_once)
        self._waiting = threading.BoundedSemaphore(self._settings.polygons_waiting)

    def find_layer(self, ref: str, variable: str | None) -> Layer:
        """Return the layer of a value band; without a name, the first.

        Raises:
            HTTPException: 404 if there is none.
        """
        layer = self._layers.find(ref, variable)
        values = layer.view.rasters.bands.values
        if not values:
            raise HTTPException(404, "this store holds a guide, which has no totals")
        if layer.raster.band.role != "value":
            names = ", ".join(band.name for band in values)
            raise HTTPException(404, f"{layer.name} has no statistics; expected one of {names}")
        return layer

    def compute(
        self,
        polygon: dict[str, Any],
        layer: Layer,
        correlation: float | None,
        bins: int,
        span: tuple[float, float] | None,
    ) -> PolygonStats:
        """Return the statistics of one band inside a polygon.

        Raises:
            InputError: If the polygon is none, is too large, or takes too long.
        """
        deadline = time.monotonic() + self._settings.max_seconds * _SHARE
        description = layer.found.version.description
        area = read_polygon(polygon)
        pixel_areas = find_pixel_areas(description.grid.crs)
        projected = project_polygon(area, description.grid.crs)
        bounds = PixelBounds(pixels=self._settings.max_polygon_pixels, outline=self._settings.max_outline_pixels)
        zone = Zone(layer.view.rasters, projected, pixel_areas=pixel_areas, bounds=bounds)
        low, high = span or layer.find_span()
        if correlation is None:
            correlation = _find_correlation(description.spec_yaml)
        sums = zone.accumulate(layer.name, HistogramBins(low=low, high=high, count=bins), lambda: _check(deadline))
        sd = zone.compute_sd(sums, correlation) if sums.known else None
        outline_m2 = pixel_areas.measure_polygon(area)
        sd = sd if sums.known >= sums.valid * (1 - 1e-9) else None
        return PolygonStats(
            ref=layer.ref,
            version=layer.found.version.snapshot,
            variable=layer.name,
            area_ha=_round(outline_m2 * _HECTARE),
            area_in_map_ha=_round(sums.inside * _HECTARE),
            valid_area_ha=_round(sums.valid * _HECTARE),
            valid_fraction=_round(min(1.0, sums.valid / outline_m2)),
            total=_describe_total(sums, sd, layer.units),
            mean=_describe_mean(sums, sd, layer.units),
            histogram=_describe_histogram(sums),
            quality=_describe_flags(sums, layer),
            resolution=_describe_resolution(zone, sums, layer),
        )

    async def take_slot(self) -> None:
        """Wait for a slot; polygons wait here, where they hold no thread that other routes need.

        Raises:
            HTTPException: 503 if none is free in time, or too many polygons wait already.
        """
        busy = HTTPException(503, "other polygons are being added up; try again", {"Retry-After": "5"})
        if self._slots.acquire(blocking=False):
            return
        if not self._waiting.acquire(blocking=False):
            raise busy
        try:
            deadline = time.monotonic() + _WAIT_S
            while not self._slots.acquire(blocking=False):
                if time.monotonic() > deadline:
                    raise busy
                await asyncio.sleep(_LOOK_S)
        finally:
            self._waiting.release()

    def release_slot(self) -> None:
        """Give a slot back."""
        self._slots.release()


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise InputError("the polygon takes too long; ask for a smaller one")


def _find_correlation(spec_yaml: str) -> float | None:
    """Return the distance over which errors of the source correlate, as the map's description says."""
    length = yaml.safe_load(spec_yaml).get("source", {}).get("sd_correlation")
    return None if length is None else float(length)


def _describe_total(sums: ZonalSums, sd: SumSd | None, units: str) -> Quantity | None:
    """Return the total of the area that has values, its deviation if it is known of all of it.

    None where the units are not per area: a sum of elevations or reflectances means nothing.
    """
    amount, _, per = units.rpartition(" ")
    factor = _PER_AREA.get(per)
    if factor is None:
        return None
    return Quantity(
        value=_round(sums.total * factor),
        units=amount,
        sd=_round_sd(sd.scale(factor)) if sd else None,
    )


def _describe_mean(sums: ZonalSums, sd: SumSd | None, units: str) -> Quantity:
    """Return the mean of the area that has values."""
    return Quantity(
        value=_round(sums.total / sums.valid) if sums.valid else None,
        units=units,
        sd=_round_sd(sd.scale(1 / sums.valid)) if sd else None,
    )


def _round_sd(sd: SumSd) -> SumSd:
    return SumSd(
        independent=_round(sd.independent),
        correlated=None if sd.correlated is None else _round(sd.correlated),
        correlation_m=sd.correlation_m,
        fully_correlated=_round(sd.fully_correlated),
    )


def _describe_histogram(sums: ZonalSums) -> Histogram:
    below, *areas, above = (_round(area * _HECTARE) for area in sums.histogram.tolist())
    return Histogram(edges=sums.bins.edges, area_ha=areas, below_ha=below, above_ha=above)


def _describe_flags(sums: ZonalSums, layer: Layer) -> list[FlagShare]:
    """Return the shares of the area inside the map: a pixel with several flags counts for each."""
    attributes = layer.view.rasters.bands.quality.attributes
    codes = np.arange(sums.flags.size)
    named = [("", "nothing to remark", codes == 0)]
    for name, (mask, value) in read_flags(attributes).items():
        named.append((name, FLAG_MEANINGS.get(name, name.replace("_", " ")), codes & mask == value))
    areas = [float(sums.flags[where].sum()) for _, _, where in named]
    return [
        FlagShare(
            flag=name,
            meaning=meaning,
            area_ha=_round(area * _HECTARE),
            share=_round(area / sums.inside) if sums.inside else 0.0,
        )
        for (name, meaning, _), area in zip(named, areas, strict=True)
    ]


def _describe_resolution(zone: Zone, sums: ZonalSums, layer: Layer) -> StatsResolution:
    """Return which level was added up, and how far its total may be from that of full resolution."""
    grid, raster = layer.view.rasters.grid, layer.raster
    _, _, per = layer.units.rpartition(" ")
    factor = _PER_AREA.get(per)
    encoding = raster.band.encoding
    rounding = encoding.scale_factor / 2 * zone.level if encoding and encoding.dtype != "float32" else 0.0
    return StatsResolution(
        level=zone.level,
        pixel=float(grid.resolution) * 2**zone.level,
        crs=grid.crs,
        pixels=sums.pixels,
        total_tolerance=None if factor is None else _round((sums.partial + rounding * sums.valid) * factor),
        edges=_EDGES,
        up_to_date=zone.level == 0 or layer.view.rasters.up_to_date,
    )


def _round(value: float) -> float:
    return float(f"{value:.10g}")
