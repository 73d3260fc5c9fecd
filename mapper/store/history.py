"""Earlier versions of a pixel: what it held before, and what made it then."""

from collections.abc import Iterator

from mapper.store.faults import explain_faults
from mapper.store.ledger import Ledger
from mapper.store.repository import open_session
from mapper.store.why import Answer, explain_pixel


def trace_pixel(ledger: Ledger, x: float, y: float, *, crs: str = "EPSG:4326") -> Iterator[Answer]:
    """Tell what made the pixel that holds a point, then what made it before, back to the first.

    The cost is that of the versions of this one tile, not of all commits. It ends where a version has expired.

    Raises:
        StoreError: If the storage fails.
        GridError: If the point is outside the map.
    """
    while True:
        with explain_faults("the store"):
            answer = explain_pixel(ledger, x, y, crs=crs)
        if answer.record is None:
            return
        yield answer
        before = _find_parent(ledger, answer.snapshot)
        if not before:
            return
        with explain_faults("the store"):
            session = open_session(ledger.repository, ref=before)
        ledger = Ledger(repository=ledger.repository, session=session)


def _find_parent(ledger: Ledger, snapshot: str) -> str:
    """The version before another; empty if there is none or it has expired."""
    if not snapshot:
        return ""
    with explain_faults("the store"):
        ancestry = iter(ledger.repository.ancestry(snapshot_id=snapshot))
        next(ancestry)
        parent = next(ancestry, None)
    return parent.id if parent else ""
