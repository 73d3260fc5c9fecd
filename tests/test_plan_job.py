"""A plan that is kept beside its map is used while nothing that it depends on has changed, and only then."""

import json
import logging
from dataclasses import replace
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from region import write_weights

from mapper.catalog.inventory import inventory_path
from mapper.catalog.items import item_digest
from mapper.errors import PlanError
from mapper.plan import job as job_module
from mapper.plan.job import plan_path, prepare_job
from mapper.plan.pending import expect_task, expect_tiles, find_pending
from mapper.plan.plan import make_plan
from mapper.plan.task_table import TaskTable


@pytest.fixture
def planned(region):
    """A map with a network, whose plan is kept; and its tasks as they were planned."""
    write_weights(region.folder)
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"}, grid__tile=64, grid__chunk=64)
    job = prepare_job(region.map)
    assert not job.saved
    job.freeze()
    return region, list(job.plan.tasks)


@pytest.fixture
def planning():
    """Counts how often a plan is made."""
    with mock.patch.object(job_module, "make_plan", wraps=make_plan) as counted:
        yield counted


def change_items(region, change):
    """Change the first item of a frozen file as who left no seal would, its other metadata left as it is."""
    table = pq.read_table(inventory_path(region.map))
    texts = table["mapper:item"].to_pylist()
    item = json.loads(texts[0])
    change(item)
    texts[0] = json.dumps(item)
    column = table.schema.get_field_index("mapper:item")
    changed = table.set_column(column, "mapper:item", [texts])
    metadata = {key: value for key, value in table.schema.metadata.items() if not key.endswith(b"seal")}
    pq.write_table(changed.replace_schema_metadata(metadata), inventory_path(region.map))


def test_a_kept_plan_is_used_again_and_is_what_planning_makes(planned, planning):
    region, tasks = planned
    job = prepare_job(region.map)
    assert job.saved
    assert planning.call_count == 0
    assert list(job.plan.tasks) == tasks
    content = plan_path(region.map).read_bytes()
    job.freeze()
    assert plan_path(region.map).read_bytes() == content
    assert make_plan(job.spec, job.items) == job.plan


def test_a_selection_of_a_kept_plan_is_no_new_plan_and_does_not_replace_it(planned, planning):
    region, tasks = planned
    job = prepare_job(region.map, only="::3")
    job.freeze()
    assert planning.call_count == 0
    assert list(job.plan.tasks) == tasks[::3]
    assert list(prepare_job(region.map).plan.tasks) == tasks
    with pytest.raises(PlanError, match=r"a task may use 1\.0 KiB"):
        prepare_job(region.map, worker_memory=1024)
    assert planning.call_count == 0


def test_a_selection_on_its_own_keeps_the_plan_of_the_whole_map(planned, planning):
    region, tasks = planned
    plan_path(region.map).unlink()
    job = prepare_job(region.map, only="::3")
    job.freeze()
    assert list(prepare_job(region.map).plan.tasks) == tasks
    assert planning.call_count == 1


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("map", lambda region: region.change(consistency="none")),
        ("grid", lambda region: region.change(grid__tile=128)),
        ("model", lambda region: write_weights(region.folder, seed=4)),
        ("provider", lambda region: region.change(catalog__override={"title": "another"})),
        ("set of items", lambda region: change_items(region, lambda item: item["properties"].update(note="new"))),
        ("set of items", lambda region: change_items(region, lambda item: item.update(bbox=[0, 0, 1, 1]))),
    ],
)
def test_whatever_a_plan_depends_on_is_planned_again_when_it_changes(planned, planning, caplog, what, change):
    region, _ = planned
    change(region)
    with caplog.at_level(logging.INFO):
        job = prepare_job(region.map)
    assert (planning.call_count, job.saved) == (1, False)
    assert f"another {what}" in caplog.text
    assert job.plan == make_plan(job.spec, job.items)
    job.freeze()
    assert prepare_job(region.map).saved


def test_another_version_of_mapper_plans_again(planned, planning):
    region, _ = planned
    with mock.patch.object(job_module, "__version__", "0"):
        assert not prepare_job(region.map).saved
    assert planning.call_count == 1


def test_a_damaged_plan_file_is_planned_again_and_replaced(planned, planning, caplog):
    region, tasks = planned
    whole = plan_path(region.map).read_bytes()
    for content in (b"", b"no plan", whole[: len(whole) // 2]):
        plan_path(region.map).write_bytes(content)
        with caplog.at_level(logging.INFO):
            job = prepare_job(region.map)
        assert list(job.plan.tasks) == tasks
        assert "planning again" in caplog.text
        caplog.clear()
        job.freeze()
        assert plan_path(region.map).read_bytes() == whole
    assert planning.call_count == 3


def test_tasks_of_a_table_are_put_together_from_its_arrays(planned):
    region, tasks = planned
    table = prepare_job(region.map).plan.tasks
    assert isinstance(table, TaskTable)
    assert (len(table), table[-1], table[1:3]) == (len(tasks), tasks[-1], tasks[1:3])
    assert table.take(np.array([3, 0, 0])) == [tasks[3], tasks[0], tasks[0]]
    assert table != tasks[:-1]
    assert table != [*tasks[:-1], replace(tasks[-1], id=tasks[0].id)]
    with pytest.raises(IndexError):
        table[len(tasks)]
    digests = {item["id"]: item_digest(item) for item in table.items}
    assert {item["id"]: item_digest(item) for task in tasks for item in task.guide}.items() <= digests.items()


def test_what_is_expected_of_a_table_is_what_is_expected_of_each_task(planned):
    plan = prepare_job(planned[0].map).plan
    assert expect_tiles(plan) == {task.tile: expect_task(plan, task) for task in plan.tasks}
    assert all(expected.items for expected in expect_tiles(plan).values())


def test_a_table_of_tasks_that_were_taken_apart_is_the_same_table(planned):
    table = prepare_job(planned[0].map).plan.tasks
    again = TaskTable.of(list(table))
    assert again == table
    assert (again.names, again.tiles) == (table.names, table.tiles)
    assert len(TaskTable.of([])) == 0


def test_nothing_of_a_plan_is_done_before_there_is_a_store(planned):
    plan = prepare_job(planned[0].map).plan
    pending = find_pending(plan, None)
    assert [due.task for due in pending.todo] == list(plan.tasks)
    assert (pending.todo[0].cause, pending.causes) == ("new", {"new": len(plan)})
