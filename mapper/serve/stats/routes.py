"""``/stats``: what lies inside a polygon."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import yaml
from fastapi import APIRouter, Body, HTTPException, Query, Response
from fastapi.responses import JSONResponse

from mapper.errors import InputError
from mapper.serve.errors import describe_refusals
from mapper.serve.pixel import SAID, Ref
from mapper.serve.schemas import FlagShare, Histogram, PolygonStats, Quantity, StatsResolution
from mapper.serve.stats.pixel_area import find_ground
from mapper.serve.stats.polygon import project_outline, read_outline
from mapper.serve.stats.sum_uncertainty import SumSd
from mapper.serve.stats.zonal_sums import HistogramBins, Sums, Zone
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.layers import Layer, Layers
from mapper.serve.tiles.styles import Range, read_range
from mapper.serve.versions import Served
from mapper.store.why import to_plain

_WAIT_S = 5.0
_HECTARE = 1e-4
_PER_AREA: Mapping[str, float] = MappingProxyType({"ha-1": _HECTARE, "m-2": 1.0, "km-2": 1e-6})
"""What units per area are multiplied by a square metre with."""
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


def make_stats_router(served: Served) -> APIRouter:
    """The route of polygons."""
    router = APIRouter(tags=["stats"], responses=describe_refusals(404, 422))
    desk = _Desk(served)

    @router.post(
        "/stats",
        summary="What lies inside a polygon",
        response_model=PolygonStats,
        responses=describe_refusals(400),
    )
    def post_stats(
        polygon: Annotated[dict[str, Any], Body(openapi_examples={"polygon": {"value": _EXAMPLE}})],
        ref: Ref = "main",
        correlation: Correlation = None,
        bins: Annotated[int, Query(ge=1, le=200, description="Classes of the histogram")] = 20,
        span: Annotated[Range, Query(alias="range", description="First and last edge of the histogram")] = None,
    ) -> Response:
        """Area, area-weighted total and mean with their standard deviations, histogram and quality of a polygon.

        GeoJSON in longitude and latitude: a Polygon or MultiPolygon with holes, or a Feature with one.
        """
        content = desk.answer(polygon, ref, correlation=correlation, bins=bins, span=read_range(span, "range"))
        return JSONResponse(to_plain(content), headers={"Cache-Control": "no-store"})

    return router


class _Desk:
    """Answers one polygon after the other."""

    def __init__(self, served: Served) -> None:
        self._settings = served.settings
        self._layers = Layers(served.versions, ByteCache(0))
        self._places = threading.BoundedSemaphore(served.settings.polygons_at_once)

    def answer(
        self,
        polygon: dict[str, Any],
        ref: str,
        *,
        correlation: float | None,
        bins: int,
        span: tuple[float, float] | None,
    ) -> PolygonStats:
        deadline = time.monotonic() + self._settings.max_seconds
        layer = self._layers.find(ref, None)
        description = layer.found.version.description
        if not description.values:
            raise HTTPException(404, "this store holds a guide, which has no totals")
        area = read_outline(polygon)
        ground = find_ground(description.grid.crs)
        projected = project_outline(area, description.grid.crs)
        zone = Zone(layer.view.rasters, projected, ground=ground, most_pixels=self._settings.max_polygon_pixels)
        low, high = span or layer.find_span()
        if correlation is None:
            correlation = _find_correlation(description.spec_yaml)
        with self._take_place():
            sums = zone.add_up(HistogramBins(low=low, high=high, count=bins), lambda: _check(deadline))
            sd = zone.deviate(sums, correlation) if sums.known else None
        outline_m2 = ground.measure_outline(area)
        sd = sd if sums.known >= sums.valid * (1 - 1e-9) else None
        return PolygonStats(
            ref=ref,
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

    @contextmanager
    def _take_place(self) -> Iterator[None]:
        if not self._places.acquire(timeout=_WAIT_S):
            raise HTTPException(503, "other polygons are being added up; try again", {"Retry-After": "5"})
        try:
            yield
        finally:
            self._places.release()


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise InputError("the polygon takes too long; ask for a smaller one")


def _find_correlation(spec_yaml: str) -> float | None:
    """The distance over which errors of the source correlate, as the map's description says."""
    length = yaml.safe_load(spec_yaml).get("source", {}).get("sd_correlation")
    return None if length is None else float(length)


def _describe_total(sums: Sums, sd: SumSd | None, units: str) -> Quantity:
    """Return the total of the area that has values; its deviation if it is known of all of it."""
    amount, _, per = units.rpartition(" ")
    factor = _PER_AREA.get(per, 1.0)
    return Quantity(
        value=_round(sums.total * factor),
        units=amount if per in _PER_AREA else f"{units} m2",
        sd=_round_sd(sd.scale(factor)) if sd else None,
    )


def _describe_mean(sums: Sums, sd: SumSd | None, units: str) -> Quantity:
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


def _describe_histogram(sums: Sums) -> Histogram:
    below, *areas, above = (_round(area * _HECTARE) for area in sums.histogram.tolist())
    return Histogram(edges=sums.bins.edges, area_ha=areas, below_ha=below, above_ha=above)


def _describe_flags(sums: Sums, layer: Layer) -> list[FlagShare]:
    """Return the shares of the area inside the map: a pixel with several flags counts for each."""
    attributes = layer.view.rasters.find("qa").attributes
    codes = np.arange(sums.flags.size)
    named = [("", "nothing to remark", codes == 0)]
    for name, mask in zip(str(attributes["flag_meanings"]).split(), attributes["flag_masks"], strict=True):
        named.append((name, SAID.get(name, name.replace("_", " ")), codes & int(mask) != 0))
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


def _describe_resolution(zone: Zone, sums: Sums, layer: Layer) -> StatsResolution:
    """Return which level was added up, and how far its total may be from that of full resolution."""
    grid, raster = layer.view.rasters.grid, layer.raster
    _, _, per = layer.units.rpartition(" ")
    encoding = raster.band.encoding
    rounding = encoding.scale_factor / 2 * zone.level if encoding and encoding.dtype != "float32" else 0.0
    tolerance = (sums.partial + rounding * sums.valid) * _PER_AREA.get(per, 1.0)
    return StatsResolution(
        level=zone.level,
        pixel=float(grid.resolution) * 2**zone.level,
        crs=grid.crs,
        pixels=sums.pixels,
        total_tolerance=_round(tolerance),
        edges=_EDGES,
        up_to_date=zone.level == 0 or layer.view.rasters.up_to_date,
    )


def _round(value: float) -> float:
    return float(f"{value:.10g}")
