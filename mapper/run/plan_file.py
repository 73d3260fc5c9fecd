"""A plan on disk: one gzipped file of JSON lines, the header first, then items, then tasks.

Items are written once and tasks refer to them by number, so a file grows with items and tasks and not with their
product. The same plan gives the same bytes.
"""

import gzip
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mapper.catalog.items import ItemDict, Items
from mapper.errors import PlanError
from mapper.grid import Tile
from mapper.run.context import Task
from mapper.run.plan import Plan

_FORMAT = "mapper plan 1"
_DIGESTS = ("spec_digest", "grid_digest", "model_digest", "items_digest")

_Key = tuple[str, str]


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan; a file that exists is replaced in one step."""
    items = {_key(item): item for task in plan.tasks for item in (*task.guide, *task.source)}
    numbers = {key: number for number, key in enumerate(items)}
    query = dict(plan.tasks[0].guide.query) if plan.tasks else {}
    header = {"format": _FORMAT, "items": len(items), "tasks": len(plan.tasks), "query": query}
    header |= {name: getattr(plan, name) for name in _DIGESTS}
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as stream:
        for line in (header, *items.values(), *(_dump_task(task, numbers) for task in plan.tasks)):
            stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    aside = path.with_name(f"{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(content.getvalue())
    aside.replace(path)


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: If the file cannot be read, is no plan, or is not complete.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            header, *lines = map(json.loads, stream)
        if header["format"] != _FORMAT:
            raise PlanError(f"{path} is {header['format']!r}, expected {_FORMAT!r}; plan again")
        items, tasks = lines[: header["items"]], lines[header["items"] :]
        if len(tasks) != header["tasks"]:
            raise PlanError(f"{path} holds {len(tasks)} of {header['tasks']} tasks; plan again")
        return Plan(
            **{name: header[name] for name in _DIGESTS},
            tasks=tuple(_load_task(task, items, header["query"]) for task in tasks),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
        raise PlanError(f"{path} is no plan: {type(error).__name__} {error}") from error


def _key(item: ItemDict) -> _Key:
    return item["collection"], item["id"]


def _dump_task(task: Task, numbers: Mapping[_Key, int]) -> list[Any]:
    def refer(items: Iterable[ItemDict]) -> list[int]:
        return [numbers[_key(item)] for item in items]

    return [task.tile.row, task.tile.col, task.id, task.items_digest, refer(task.guide), refer(task.source)]


def _load_task(content: list[Any], items: list[ItemDict], query: Mapping[str, Any]) -> Task:
    row, col, name, digest, guide, source = content
    return Task(
        tile=Tile(row, col),
        id=name,
        items_digest=digest,
        guide=Items(items=tuple(items[number] for number in guide), query=query),
        source=Items(items=tuple(items[number] for number in source), query=query),
    )
