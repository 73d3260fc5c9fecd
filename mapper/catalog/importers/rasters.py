"""A folder of rasters as a static STAC catalogue with a provider of its own, made from the headers of the files.

The files stay where they are. What a person says goes into the provider, what the files say into the items, and what
neither says is guessed, with a line about it. A contradiction between the two is an error of one line, and so are files
that cannot be of one layer: a map would take one for the other without a word.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import shapely
import yaml

from mapper.access.admission import is_remote
from mapper.access.files import Access
from mapper.access.rules import AccessRule
from mapper.catalog.footprint import footprint
from mapper.catalog.importers.raster_files import RasterHeader, Report, find_files, read_headers
from mapper.catalog.importers.raster_layer import Layer, LayerRequest, describe_layer
from mapper.catalog.items import ItemDict
from mapper.catalog.provider import Provider
from mapper.catalog.raster import EXTENSIONS, describe_footprint
from mapper.catalog.references import to_reference
from mapper.catalog.static import read_catalog, write_catalog
from mapper.errors import InputError

JsonDict = dict[str, Any]
_CATALOG, _PROVIDER = "catalog.json", "provider.yaml"
_MADE = "described by mapper from the headers of its files"
"""Mark of a catalogue that this module made, and may replace."""
ANY_DAY = date(2000, 1, 1)
"""Date of files that nobody dates: a map takes static layers of any date."""
_HEAD = """\
# Made by `mapper catalog rasters` from the headers of the files; change what it got wrong. How files are read:
#   mapper catalog check {provider} --item {folder} --open
"""
_SAME_GROUND = 0.9
"""Share of the smaller of two files that both cover, from which they are taken for two layers."""
_NAMED = 3
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_LAST = re.compile(r"\.(?:txt|tiff?)$", re.IGNORECASE)
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"


@dataclass(frozen=True, kw_only=True)
class RasterRequest:
    """Request to describe rasters; what is None or empty is guessed from the files."""

    source: str
    """Folder, list of files, or one file; on this machine or at an address."""
    out: Path
    """Directory of the catalogue and its provider."""
    pattern: str | None = None
    collection: str | None = None
    layer: LayerRequest = field(default_factory=LayerRequest)
    dates: tuple[date, date] | None = None
    """First and last day."""
    crs: str | None = None
    """CRS of files that name none."""
    licence: str = "not said: that of the files"


@dataclass(frozen=True, kw_only=True)
class RasterCatalog:
    """Catalogue that was written."""

    catalog: Path
    provider: Path
    collection: str
    layer: Layer
    items: tuple[ItemDict, ...]
    notes: tuple[str, ...]
    """What was guessed, one line each."""
    left_out: tuple[str, ...]
    """Files that are not in it, one line each with the reason."""


def make_raster_catalog(
    request: RasterRequest, *, access: Access | None = None, report: Report | None = None
) -> RasterCatalog:
    """Describe rasters as one collection of a static catalogue, and write a provider beside it.

    A collection of the same name is replaced, others that were made so stay.

    Args:
        request: The files, and what is known of them.
        access: How files are reached.
        report: Told of the progress.

    Raises:
        InputError: If there is no file, none can be described, they are not of one layer, contradict the request, or
            the directory holds something else. With any error nothing is written.
        AssetError: If an address cannot be reached.
    """
    out = request.out.absolute()
    held, name = _read_held(out), request.collection or _name_collection(request.source)
    if not _NAME.fullmatch(name) or name in (_CATALOG, _PROVIDER):
        raise InputError(f"--collection {name!r} is no name of a folder: letters, digits, _, - and dots")
    access, rule = access or Access(), AccessRule()
    files, refused = find_files(request.source, request.pattern, access, rule)
    headers = read_headers(files, crs=request.crs, access=access, rule=rule, report=report)
    left_out = (*refused, *headers.left_out)
    if not headers.found:
        raise InputError(f"{request.source}: no file can be described: {_list(left_out)}")
    layer = describe_layer(headers.found, replace(request.layer, is_trusted=request.crs is not None))
    items = tuple(_make_items(headers.found, layer, name, request))
    _refuse_layers(items, headers.found)
    _publish(out, held, name, layer, items, request)
    return RasterCatalog(
        catalog=out / _CATALOG,
        provider=out / _PROVIDER,
        collection=name,
        layer=layer,
        items=items,
        notes=(*layer.notes, *_note_date(request)),
        left_out=left_out,
    )


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Collections that a directory holds already."""

    collections: Mapping[str, JsonDict] = field(default_factory=dict)
    items: tuple[ItemDict, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)


def _read_held(out: Path) -> _Held:
    """Return the catalogue that a directory holds already.

    Raises:
        InputError: If it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return _Held()
    try:
        catalog = json.loads((out / _CATALOG).read_text(encoding="utf-8"))
        catalog["description"].index(_MADE)
        names = [link["href"].rpartition("/")[0] for link in catalog["links"] if link["rel"] == "child"]
        documents = {name: json.loads((out / name / "collection.json").read_text(encoding="utf-8")) for name in names}
        rules = yaml.safe_load((out / _PROVIDER).read_text(encoding="utf-8"))["collections"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{out} holds no catalogue of rasters that may be replaced: give a new directory") from error
    foreign = sorted(path.name for path in out.iterdir() if path.name not in (_CATALOG, _PROVIDER, *names))
    if foreign:
        raise InputError(f"{out} holds {_list(foreign)} besides a catalogue of rasters: give a new directory")
    kept = ("title", "description", "license")
    collections = {name: {key: each[key] for key in kept} for name, each in documents.items()}
    return _Held(collections=collections, items=read_catalog(out / _CATALOG, collections=set(names)).items, rules=rules)


def _refuse_layers(items: Sequence[ItemDict], headers: Sequence[RasterHeader]) -> None:
    """Refuse files that cover the same ground: of a static layer the first would count, and the others be lost.

    Raises:
        InputError: Naming two of them.
    """
    outlines = [footprint(item) for item in items]
    for one, other in shapely.STRtree(outlines).query(outlines, predicate="intersects").T.tolist():
        shared = outlines[one].intersection(outlines[other]).area
        if one < other and shared >= _SAME_GROUND * min(outlines[one].area, outlines[other].area):
            raise InputError(
                f"{headers[one].file.label} and {headers[other].file.label} cover the same ground: one collection "
                "holds one layer of one date; choose files with --pattern, and give each layer a --collection"
            )


def _name_collection(source: str) -> str:
    """Return the name of a collection by that of its folder, list or file."""
    last = source.rstrip("/\\").rpartition("/")[2] if is_remote(source) else Path(source).absolute().name
    return _ODD.sub("-", _LAST.sub("", last.partition("?")[0])).strip("-.") or "rasters"


def _make_items(
    headers: Iterable[RasterHeader], layer: Layer, collection: str, request: RasterRequest
) -> Iterable[ItemDict]:
    seen: Counter[str] = Counter()
    when = _describe_dates(request.dates)
    for header in headers:
        stem = header.file.label.rpartition(".")[0] or header.file.label
        name = _ODD.sub("-", stem.replace("/", "_")).strip("-.") or "raster"
        seen[name] += 1
        yield {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": [*EXTENSIONS[:2], *([_EO] if len(layer.bands) > 1 else [])],
            "id": name if seen[name] == 1 else f"{name}-{seen[name]}",
            "collection": collection,
            **describe_footprint(header.geobox),
            "properties": when,
            "assets": {"data": _describe_asset(header, layer)},
        }


def _describe_asset(header: RasterHeader, layer: Layer) -> JsonDict:
    code, href = header.crs.to_epsg(), header.file.href
    return {
        "href": href if is_remote(href) else to_reference(href),
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        **({"proj:epsg": code} if code else {"proj:epsg": None, "proj:wkt2": header.crs.to_wkt()}),
        "proj:shape": list(header.geobox.shape),
        "proj:transform": list(header.geobox.transform)[:6],
        "raster:bands": [layer.describe_band(header, band) for band in range(1, len(header.dtypes) + 1)],
    }


def _describe_dates(dates: tuple[date, date] | None) -> JsonDict:
    first, last = dates or (ANY_DAY, ANY_DAY)
    if first == last:
        return {"datetime": f"{first}T12:00:00Z"}  # the day of the sun over it is the same
    return {"datetime": None, "start_datetime": f"{first}T00:00:00Z", "end_datetime": f"{last}T23:59:59Z"}


def _note_date(request: RasterRequest) -> list[str]:
    if request.dates is not None:
        return []
    return [f"date {ANY_DAY}, since nobody says: right for a static layer (static: true); else give --date"]


def _publish(
    out: Path, held: _Held, name: str, layer: Layer, items: Sequence[ItemDict], request: RasterRequest
) -> None:
    """Write catalogue and provider beside their final folder, then move them there whole."""
    document = {
        "title": f"{name}: {layer.kind}",
        "description": f"{len(items)} files, {_MADE}",
        "license": "proprietary",
    }
    collections = {**held.collections, name: document}
    kept = [{key: value for key, value in item.items() if key != "links"} for item in held.items]
    everything = [*(item for item in kept if item["collection"] != name), *items]
    rules = {**held.rules, name: layer.rule}
    provider = _describe_provider(rules, request)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            fresh = Path(scratch) / "fresh"
            catalog = {"id": "rasters", "description": f"Rasters, {_MADE}"}
            write_catalog(fresh, catalog=catalog, collections=collections, items=everything)
            head = _HEAD.format(provider=_PROVIDER, folder=name)
            (fresh / _PROVIDER).write_text(head + yaml.safe_dump(provider, sort_keys=False, width=110))
            if out.exists():
                out.rename(Path(scratch) / "stale")
            fresh.rename(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error}") from error


def _describe_provider(rules: Mapping[str, Any], request: RasterRequest) -> JsonDict:
    content = {
        "name": "rasters",
        "title": "Rasters of one's own, described from their headers",
        "kind": "static",
        "endpoint": _CATALOG,
        "licence": request.licence,
        "attribution": "",
        "collections": dict(rules),
    }
    Provider.model_validate(content)
    return content


def _list(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else [])])
