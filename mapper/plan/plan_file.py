"""A plan on disk: one Parquet file of its tasks, which names items by their number in the file of items beside it.

It is written whole or not at all, the same plan gives the same bytes, and it is read in a fraction of the time that
planning takes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mapper.catalog.items import Items
from mapper.errors import PlanError
from mapper.plan.plan import Plan
from mapper.plan.task_table import Members, TaskTable
from mapper.store.identity import Identity

_FORMAT = "mapper plan 2"
_HEADER = b"mapper:plan"
_NAMES = tuple(each.name for each in fields(Identity))
_ROWS = 8192
"""Tasks that are written and read together."""
_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("id", pa.binary(16)),
        ("items_digest", pa.binary(32)),
        ("guide", pa.list_(pa.int32())),
        ("source", pa.list_(pa.int32())),
    ]
)


def save_plan(plan: Plan, path: Path, *, key: Mapping[str, str] | None = None) -> None:
    """Write a plan; a file that exists is replaced in one step.

    Args:
        plan: As :func:`mapper.plan.plan.make_plan` makes it.
        path: Where to.
        key: All that the plan depends on, see :func:`load_plan`.
    """
    header = plan.identity.to_fields() | {"format": _FORMAT, "tasks": len(plan.tasks), "key": dict(key or {})}
    schema = _SCHEMA.with_metadata({_HEADER: json.dumps(header, sort_keys=True)})
    aside = path.absolute().with_name(f"{path.name}.new")  # pyarrow takes "a:b" for an address
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(aside, schema, compression="zstd", write_page_checksum=True) as writer:
        for first in range(0, len(plan.tasks), _ROWS):
            writer.write_table(pa.table(_to_columns(plan.tasks[first : first + _ROWS]), schema=schema))
    aside.replace(path)


def load_plan(path: Path, items: Items, *, key: Mapping[str, str] | None = None) -> Plan:
    """Read a plan.

    Args:
        path: Where from.
        items: All items that it was made from.
        key: What it depends on now; what differs from the key that it was saved with makes it another plan. None
            compares the digest of the items alone, which means that each of them is looked at.

    Raises:
        PlanError: If the file cannot be read, is no plan, is not complete, or was made from other inputs.
    """
    try:
        with pq.ParquetFile(path.absolute(), page_checksum_verification=True) as file:
            header = json.loads((file.schema_arrow.metadata or {})[_HEADER])
            if header["format"] != _FORMAT:
                raise PlanError(f"{path} is {header['format']!r}, expected {_FORMAT!r}; plan again")
            _check_inputs(path, header, items, key)
            tasks = TaskTable.join([_to_tasks(table, items) for table in _read_parts(file)])
        if len(tasks) != header["tasks"]:
            raise PlanError(f"{path} holds {len(tasks)} of {header['tasks']} tasks; plan again")
        return Plan(identity=Identity(**{name: header[f"{name}_digest"] for name in _NAMES}), tasks=tasks)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise PlanError(f"{path} is no plan: {type(error).__name__} {' '.join(str(error).split())}") from error


def _check_inputs(path: Path, header: Mapping[str, object], items: Items, key: Mapping[str, str] | None) -> None:
    if key is None:
        key, saved = {"items": items.digest}, {"items": header["items_digest"]}
    else:
        saved = dict(header["key"])  # type: ignore[call-overload]
    changed = sorted(name for name in {*key, *saved} if key.get(name) != saved.get(name))
    if changed:
        raise PlanError(f"{path} was made from another {', another '.join(changed)}; plan again")


def _read_parts(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield the file piece by piece: all pairs of a task and an item at once take many times the memory of them."""
    if not file.num_row_groups:
        yield file.read()
    for number in range(file.num_row_groups):
        yield file.read_row_group(number)


def _to_columns(tasks: TaskTable) -> list[pa.Array]:
    return [
        pa.array(tasks.indices[:, 0], pa.int32()),
        pa.array(tasks.indices[:, 1], pa.int32()),
        _to_binary(tasks.ids),
        _to_binary(tasks.digests),
        _to_lists(tasks.guide),
        _to_lists(tasks.source),
    ]


def _to_lists(members: Members) -> pa.ListArray:
    ends = np.concatenate([[0], np.cumsum(members.counts)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(members.unfold()[1], pa.int32()))


def _to_binary(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Return (task, byte) as one column of fixed width."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(rows.shape[1]), len(rows), [None, pa.py_buffer(rows.tobytes())]
    )


def _to_tasks(table: pa.Table, items: Items) -> TaskTable:
    if table.schema.remove_metadata() != _SCHEMA or any(column.null_count for column in table.columns):
        raise ValueError("its columns are not those of a plan")
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    tasks = TaskTable(
        indices=np.stack([columns[name].to_numpy().astype(np.int64) for name in ("row", "col")], axis=1),
        ids=_from_binary(columns["id"]),
        digests=_from_binary(columns["items_digest"]),
        guide=_to_members(columns["guide"]),
        source=_to_members(columns["source"]),
        items=items,
    )
    for members in (tasks.guide, tasks.source):
        if len(members.item) and not 0 <= members.item.min() <= members.item.max() < len(items):
            raise ValueError(f"it names items beyond the {len(items)} that there are")
    return tasks


def _from_binary(column: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint8]:
    width = column.type.byte_width
    content = np.frombuffer(column.buffers()[1], np.uint8)
    return content.reshape(-1, width)[column.offset : column.offset + len(column)]


def _to_members(column: pa.ListArray) -> Members:
    return Members.of_lists(column.flatten().to_numpy(), column.value_lengths().to_numpy())
