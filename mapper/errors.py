"""Exceptions of mapper, as one tree.

Caller mistakes inside Python code raise ``ValueError`` or ``TypeError``. Everything the world or a user's input can get
wrong raises a subclass of :class:`MapperError`, which the command line prints as one line and turns into an exit code::

    MapperError                 exit code 1
    |- InputError               exit code 2: the request itself is wrong, nothing was started
    |  |- SpecError             the map description
    |  |- GridError             a grid that cannot be built, or a source that does not nest in it
    |  |- ContractError         a model that does not fit the map
    |  |- WeightsError          weights missing, tampered with or unreadable
    |  |- SearchError           unknown collection, empty or drifting search
    |  `- PlanError             a plan that cannot be carried out: no such tile, too big for a worker
    |- AssetError               one file of one item cannot be read
    |  |- TransientAssetError   throttling or network: worth another attempt
    |  `- CorruptAssetError     truncated or not a raster: the item is dropped for that tile
    |- StoreError               the target store
    |  |- StoreLockedError      another run is writing
    |  |- StoreMismatchError    the store belongs to another map
    |  |- StoreFullError        no space left
    |  `- TransientStoreError   the object store is throttling or out of reach: worth another attempt
    |- ClusterError             no scheduler or no worker answers
    `- FailureBudgetError       too many tiles failed, the run was stopped
"""

from mapper.redaction import redact


class MapperError(Exception):
    """Base of all errors that a user can meet; addresses in their messages are without secrets."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(str(message)))


class InputError(MapperError):
    """Fault of the request itself; nothing was started."""

    exit_code = 2


class SpecError(InputError):
    """Fault in the map description."""


class GridError(InputError):
    """Failure to build a grid, or a source that does not nest in it."""


class ContractError(InputError):
    """Mismatch between a model and the map it is to make."""


class WeightsError(InputError):
    """Weights that are missing, tampered with or unreadable."""


class SearchError(InputError):
    """Search for an unknown collection, with no result, or that does not repeat."""


class PlanError(InputError):
    """Plan that cannot be carried out: it names no tile, belongs to another map, or does not fit its worker."""


class AssetError(MapperError):
    """Failure to read one asset of one item.

    Args:
        message: What happened.
        item: STAC id of the item.
        asset: Asset key.
        href: Unsigned location of the file.
    """

    def __init__(self, message: str, *, item: str = "", asset: str = "", href: str = "") -> None:
        super().__init__(message)
        self.item = item
        self.asset = asset
        self.href = href

    def __reduce__(self) -> tuple[object, ...]:
        """Return the recipe of a copy, so that the context survives a process boundary."""
        return _rebuild_asset_error, (type(self), self.args[0], self.item, self.asset, self.href)


class TransientAssetError(AssetError):
    """Throttling or network trouble: worth another attempt."""


class CorruptAssetError(AssetError):
    """A truncated or unreadable file: the item is dropped for that tile."""


class StoreError(MapperError):
    """Target store that cannot be used."""


class StoreLockedError(StoreError):
    """Store that another run is writing to."""


class StoreMismatchError(StoreError):
    """Store of another map."""

    exit_code = 2


class StoreFullError(StoreError):
    """Store with no space left."""


class TransientStoreError(StoreError):
    """Object store that is throttling or out of reach: worth another attempt."""


class ClusterError(MapperError):
    """Cluster whose scheduler or workers do not answer."""


class FailureBudgetError(MapperError):
    """Failure of too many tiles; the run was stopped."""


def _rebuild_asset_error(kind: type[AssetError], message: str, item: str, asset: str, href: str) -> AssetError:
    return kind(message, item=item, asset=asset, href=href)
