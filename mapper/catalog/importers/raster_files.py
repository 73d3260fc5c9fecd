"""Raster files that a person names, and what their headers say: a folder, a list of paths and addresses, or one file.

Files are found by name and read through :mod:`mapper.access`, their headers only. A file that cannot be described is
left out with the reason, in one line; others are not touched by that.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from mapper.access.admission import PERSON, Document, is_remote
from mapper.access.bounds import TIFF_MARKS
from mapper.access.files import Access, gdal_environment
from mapper.access.remote import RemoteFile
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.catalog.references import path_of, resolve
from mapper.errors import AssetError, InputError, TransientAssetError

ENDINGS = (".tif", ".tiff")
_LARGEST_LIST = 16 * 2**20
"""Bytes of a list of files."""
_VRT = "a VRT is a list of other files, which a reader would have to trust: name those files, or their folder"
_THREADS = 8
"""Headers read at a time."""
_ASSET = "data"
_PLAIN = Affine.identity()

Report = Callable[[int, int], None]
"""Callback with the number of files that were looked into so far, and the number of all."""


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """One file that was found."""

    href: str
    """Absolute path, or address."""
    label: str
    """Path from what was named, for messages and ids."""
    document: Document = PERSON
    """List that names it."""


@dataclass(frozen=True, kw_only=True)
class RasterHeader:
    """Header of one file; tuples go by band."""

    file: NamedFile
    crs: CRS
    """Horizontal CRS."""
    geobox: GeoBox
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str, ...]
    """Units as the file spells them, of a band or of the vertical axis; empty where it is silent."""
    names: tuple[str, ...]
    """Descriptions of the bands, else colours; empty where there are none."""
    alpha: int
    """Number of the band that hides pixels, 0 for none."""
    is_point: bool
    """True where the file says that its pixels are points; their centres are where the transform says all the same."""
    vertical_datum: str
    """Vertical CRS, as a code or a name; empty where the file names none."""

    @property
    def data_bands(self) -> tuple[int, ...]:
        """Numbers of the bands of numbers, from 1."""
        return tuple(band for band in range(1, len(self.dtypes) + 1) if band != self.alpha)


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What was read, and what was left out."""

    found: tuple[RasterHeader, ...]
    left_out: tuple[str, ...]
    """One line for each file that is left out."""


def find_files(source: str, pattern: str | None, access: Access, rule: AccessRule) -> tuple[list[NamedFile], list[str]]:
    """Find files by name; returns them in order, and a line for each that is left out.

    Args:
        source: Folder, searched with those below it; a list of paths and addresses, one a line; or one file.
        pattern: Names that are taken, such as ``*_dsm.tif``; None takes GeoTIFFs.
        access: How addresses are reached.
        rule: The same, of a provider.

    Raises:
        InputError: If there is nothing of the kind.
        AssetError: If an address cannot be read.
    """
    if is_remote(source):
        text = _fetch_list(source, access, rule)
        names = [NamedFile(href=source, label=_last(source))] if text is None else list(_read_list(text, source))
    else:
        path = Path(path_of(source)).absolute()
        names = _look_in(path)
    chosen = [each for each in names if pattern is None or _fits(each.label, pattern)]
    virtual = [each for each in chosen if each.label.lower().endswith(".vrt")]
    listed = not _is_folder(source)
    rasters = [
        each for each in chosen if each not in virtual and (pattern or listed or each.label.lower().endswith(ENDINGS))
    ]
    refused = [f"{each.label}: {_VRT}" for each in virtual]
    if not rasters:
        wanted = pattern or "*.tif, *.tiff"
        why = "; ".join(refused[:1]) or f"of {len(names)} files none is called {wanted}"
        raise InputError(f"{source} holds no raster to describe: {why}")
    return rasters, refused


def read_headers(
    files: Sequence[NamedFile], *, crs: str | None, access: Access, rule: AccessRule, report: Report | None = None
) -> Headers:
    """Read the headers of files; those that cannot be described are left out.

    Args:
        files: What was found.
        crs: CRS of files that name none.
        access: How files are reached.
        rule: The same, of a provider.
        report: Told of the progress.

    Raises:
        InputError: If ``crs`` is none.
        TransientAssetError: If the network or this machine fails: what is there would be left out otherwise.
    """
    given = None if crs is None else _parse_crs(crs)
    found: list[RasterHeader] = []
    left_out: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a line of ours says so
        read = pool.map(lambda file: _try_header(file, given, access, rule), files)
        for done, (header, reason) in enumerate(read, start=1):
            found += [header] if header is not None else []
            left_out += [reason] if reason else []
            if report is not None:
                report(done, len(files))
    return Headers(found=tuple(found), left_out=tuple(left_out))


def _parse_crs(text: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise InputError(f"--crs {text!r} is no CRS: write a code such as EPSG:2154") from error


def _try_header(file: NamedFile, crs: CRS | None, access: Access, rule: AccessRule) -> tuple[RasterHeader | None, str]:
    """Return the header of a file and no reason, or none and the reason."""
    name = AssetName(item=file.label, asset=_ASSET, href=file.href, document=file.document)
    try:
        # GeoTIFFs of version 1.0 keep their vertical CRS for those who ask
        with gdal_environment(), rasterio.Env(GTIFF_REPORT_COMPD_CS="YES"):
            return access.read(name, rule, partial(_describe, file, crs)), ""
    except TransientAssetError:
        raise
    except AssetError as error:
        reason = " ".join(str(error).split()).partition(f"({error.href}): ")[2]
        return None, f"{file.label}: {reason or error}"


def _describe(file: NamedFile, crs: CRS | None, dataset: rasterio.DatasetReader) -> RasterHeader:
    """Return the header of an open file.

    Raises:
        OSError: If its pixels have no place, or none that is read.
    """
    own = None if dataset.crs is None else CRS.from_wkt(dataset.crs.to_wkt())
    horizontal, vertical = _split_crs(_choose_crs(own, crs))
    transform = dataset.transform
    _require_grid(transform, has_points=bool(dataset.gcps[0] or dataset.rpcs))
    geobox = GeoBox(dataset.shape, transform, horizontal.to_wkt())
    kinds = _colours(dataset)
    spelled = tuple((unit or "").strip() for unit in dataset.units)
    axis = vertical.axis_info[-1].unit_name if vertical is not None and vertical.axis_info else ""
    return RasterHeader(
        file=file,
        crs=horizontal,
        geobox=geobox,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        units=tuple(unit or axis for unit in spelled),
        names=tuple(name or kinds[number] for number, name in enumerate(dataset.descriptions)),
        alpha=kinds.index("alpha") + 1 if "alpha" in kinds else 0,
        is_point=dataset.tags().get("AREA_OR_POINT") == "Point",
        vertical_datum="" if vertical is None else _name(vertical),
    )


def _choose_crs(own: CRS | None, given: CRS | None) -> CRS:
    if own is None:
        if given is None:
            raise OSError("it names no CRS: give the one that its coordinates are of, --crs EPSG:CODE")
        return given
    if given is not None and not own.to_2d().equals(given.to_2d(), ignore_axis_order=True):
        raise OSError(f"its CRS is {_name(own)}, --crs says {_name(given)}: that of a file counts, leave --crs out")
    return own


def _split_crs(crs: CRS) -> tuple[CRS, CRS | None]:
    """Return the horizontal CRS and the vertical one.

    Raises:
        OSError: If it is of no map.
    """
    vertical = None
    if crs.is_compound:
        crs, vertical = crs.sub_crs_list[0], crs.sub_crs_list[-1]
    elif crs.is_geographic and len(crs.axis_info) == 3:
        crs, vertical = crs.to_2d(), crs
    if not (crs.is_projected or crs.is_geographic):
        raise OSError(f"its CRS {crs.name!r} is neither projected nor geographic: its pixels have no place on a map")
    return crs, vertical


def _require_grid(transform: Affine, *, has_points: bool) -> None:
    """Refuse pixels that lie on no grid along rows and columns."""
    if transform == _PLAIN:
        points = ", only control points" if has_points else ""
        raise OSError(f"it has no position{points}: warp or translate it to a georeferenced GeoTIFF (gdalwarp)")
    if transform.b or transform.d:
        raise OSError("its pixels are turned against the axes of its CRS: warp it to rows and columns (gdalwarp)")
    if not (all(map(math.isfinite, transform[:6])) and transform.a and transform.e):
        raise OSError(f"its transform {tuple(transform)[:6]} makes no grid of rows and columns")


def _colours(dataset: rasterio.DatasetReader) -> list[str]:
    """Return names of the bands by their colour; empty for grey ones and those without a colour."""
    try:
        kinds = list(dataset.colorinterp)
    except ValueError:  # GDAL knows more kinds of bands than rasterio
        return [""] * dataset.count
    plain = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.palette)
    return ["" if kind in plain else kind.name for kind in kinds]


def _name(crs: CRS) -> str:
    code = crs.to_epsg()
    return crs.name if code is None else f"EPSG:{code}"


def _is_folder(source: str) -> bool:
    return not is_remote(source) and Path(path_of(source)).is_dir()


def _look_in(path: Path) -> list[NamedFile]:
    """Return what a folder holds, what a list names, or one file."""
    if path.is_dir():
        below = sorted(each for each in path.rglob("*") if each.is_file())
        return [NamedFile(href=str(each), label=each.relative_to(path).as_posix()) for each in below]
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head in TIFF_MARKS or path.suffix.lower() in (*ENDINGS, ".vrt"):
                return [NamedFile(href=str(path), label=path.name)]
            text = head + file.read(_LARGEST_LIST)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return list(_read_list(text, str(path)))


def _fetch_list(address: str, access: Access, rule: AccessRule) -> bytes | None:
    """Return the text of a list at an address; None if it is a raster."""
    name = AssetName(item=_last(address), asset="list", href=address)
    remote = RemoteFile(name, rule, retry=access.retry, throttle=access.throttle, tally=access.tally)
    remote.open()
    if remote.read(0, 4) in TIFF_MARKS:
        return None
    if remote.size > _LARGEST_LIST:
        raise InputError(f"{address} is neither a GeoTIFF nor a list of files: it has {remote.size} bytes")
    return remote.read(0, remote.size)


def _read_list(content: bytes, base: str) -> Iterator[NamedFile]:
    """Yield the files that a list names, one a line, relative to it; what follows # is a remark.

    Raises:
        InputError: If it is no text, or a line no location.
    """
    try:
        lines = [line.partition(" #")[0].strip() for line in content.decode().splitlines()]
        hrefs = [resolve(line, base) for line in lines if line and not line.startswith("#")]
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{base} is neither a GeoTIFF nor a list of files, one a line: {error}") from error
    document = Document(location=base) if is_remote(base) else PERSON
    folders = [href.split("/")[:-1] for href in hrefs]
    shared = 0
    while len({tuple(parts[: shared + 1]) for parts in folders}) == 1 and shared < min(map(len, folders)):
        shared += 1
    for href in dict.fromkeys(hrefs):
        yield NamedFile(href=href, label="/".join(href.split("/")[shared:]), document=document)


def _last(address: str) -> str:
    return urlsplit(address).path.rpartition("/")[2] or address


def _fits(label: str, pattern: str) -> bool:
    return fnmatch(label, pattern) or fnmatch(label.rpartition("/")[2], pattern)
