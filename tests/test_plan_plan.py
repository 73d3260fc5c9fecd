"""Plans: the same inputs give the same plan; every change shows where it matters, and why."""

import copy
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from run_maps import make_items, make_spec, save_network

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider
from mapper.cost.estimate import explain_plan
from mapper.errors import ContractError, PlanError, SpecError
from mapper.execute.executors import SerialExecutor
from mapper.grid import Tile
from mapper.models.card import read_card
from mapper.plan.context import make_context
from mapper.plan.pending import find_pending
from mapper.plan.plan import check_plan, make_plan
from mapper.plan.plan_file import load_plan, save_plan
from mapper.run.runner import run_plan
from mapper.store.map_store import MapStore


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return make_items(folder), folder


@pytest.fixture(scope="module")
def guided(scenes):
    items, folder = scenes
    spec = make_spec(folder, model=save_network(folder))
    context = make_context(spec)
    return context, make_plan(spec, items, context=context), items


def changed(items, name, **properties):
    """Items of which one says something else."""
    copies = copy.deepcopy(list(items))
    for item in copies:
        if item["id"] == name:
            item["properties"].update(properties)
    return freeze_items(copies, query=items.query)


def moved(items, name, box):
    copies = copy.deepcopy(list(items))
    for item in copies:
        if item["id"] == name:
            west, south, east, north = box
            item["geometry"]["coordinates"] = [
                [[west, south], [east, south], [east, north], [west, north], [west, south]]
            ]
    return freeze_items(copies, query=items.query)


def test_planning_twice_gives_the_same_plan(guided):
    context, plan, items = guided
    again = make_plan(context.spec, items)
    assert again == plan
    assert plan.identity.items == items.digest
    assert len(plan) == 16
    assert len({task.id for task in plan.tasks}) == 16


def test_a_plan_survives_the_disk_and_the_same_plan_gives_the_same_file(guided, tmp_path):
    _, plan, items = guided
    for name in ("one", "two", "a:b#%20?"):
        save_plan(plan, tmp_path / "new" / name)
    loaded = load_plan(tmp_path / "new" / "one", items)
    assert loaded == plan
    assert loaded.tasks[0].guide.digest == plan.tasks[0].guide.digest
    assert len({path.read_bytes() for path in (tmp_path / "new").iterdir()}) == 1
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"one", "two", "a:b#%20?"}


def test_a_broken_or_foreign_plan_file_is_refused(guided, tmp_path):
    _, plan, items = guided
    whole = tmp_path / "whole"
    save_plan(plan, whole)
    content = whole.read_bytes()
    (tmp_path / "truncated").write_bytes(content[:-40])
    (tmp_path / "text").write_text("no plan")
    middle = content.index(plan.tasks.ids.tobytes()[:8]) if plan.tasks.ids.tobytes()[:8] in content else 64
    (tmp_path / "flipped").write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    table = pq.read_table(whole)
    pq.write_table(table.slice(1), tmp_path / "short")
    pq.write_table(table.drop_columns(["guide"]), tmp_path / "narrow")
    old = {b"mapper:plan": table.schema.metadata[b"mapper:plan"].replace(b"plan 2", b"plan 1")}
    pq.write_table(table.replace_schema_metadata(old), tmp_path / "old")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "foreign")
    for name in ("truncated", "text", "flipped", "short", "narrow", "old", "foreign", "absent"):
        with pytest.raises(PlanError, match=name):
            load_plan(tmp_path / name, items)


def test_a_plan_file_is_refused_for_other_items_or_another_key(guided, tmp_path):
    _, plan, items = guided
    save_plan(plan, tmp_path / "plan", key={"map": "a", "model": "b"})
    assert load_plan(tmp_path / "plan", items, key={"map": "a", "model": "b"}) == plan
    with pytest.raises(PlanError, match="another items"):
        load_plan(tmp_path / "plan", changed(items, "cci-2020", version="6"))
    for key in ({"map": "a", "model": "c"}, {"map": "a"}, {"map": "a", "model": "b", "provider": "c"}):
        with pytest.raises(PlanError, match=r"another (model|provider)"):
            load_plan(tmp_path / "plan", items, key=key)


def test_ids_change_with_model_and_with_items_that_touch_only(guided):
    context, plan, items = guided
    other_model = make_plan(
        context.spec, items, context=replace(context, identity=replace(context.identity, model="f" * 64))
    )
    assert not {task.id for task in plan.tasks} & {task.id for task in other_model.tasks}
    far = moved(items, "S2_2020-06-03", (10.0, 52.0, 10.004, 52.1))
    tiles = {task.tile for task in make_plan(context.spec, far, context=context).tasks if len(task.guide) == 2}
    assert 0 < len(tiles) < 16
    other = make_plan(context.spec, changed(far, "S2_2020-06-03", note="other"), context=context)
    before = {task.tile: task.id for task in make_plan(context.spec, far, context=context).tasks}
    assert {task.tile for task in other.tasks if task.id != before[task.tile]} == tiles


def test_items_of_other_months_and_orbits_change_nothing(guided):
    context, plan, items = guided
    winter = copy.deepcopy(next(item for item in items if item["id"] == "S2_2020-06-03"))
    winter |= {"id": "S2_winter"}
    winter["properties"] |= {"datetime": "2020-12-03T10:00:00Z"}
    more = make_plan(context.spec, freeze_items([*items, winter], query=items.query), context=context)
    assert more.tasks == plan.tasks
    assert more.identity.items != plan.identity.items


def test_a_plan_for_another_map_or_model_is_refused(guided):
    context, plan, _ = guided
    check_plan(plan, context)
    with pytest.raises(PlanError, match="another model"):
        check_plan(replace(plan, identity=replace(plan.identity, model="0")), context)
    with pytest.raises(PlanError, match="another map and grid"):
        check_plan(replace(plan, identity=replace(plan.identity, spec="0", grid="0")), context)


def test_selections_are_part_of_planning(guided):
    context, plan, items = guided
    assert make_plan(context.spec, items, context=context, only="::5").tasks == plan.tasks[::5]
    with pytest.raises(PlanError, match="selects none"):
        make_plan(context.spec, items, context=context, only="failed")


def test_the_summary_counts_what_a_plan_costs(guided):
    context, plan, _ = guided
    summary = explain_plan(plan, context)
    assert (summary.tiles, summary.items, summary.items_per_tile) == (16, 3, (3, 3.0, 3))
    assert summary.window_px == (220, 220)
    assert summary.store_bytes == 16 * 40 * 40 * 8
    # two dates of two bands and a mask; footprints are boxes in degrees, a little larger than the rasters
    decoded = 16 * 220 * 220 * 2 * (2 + 2 + 1) + 16 * 22 * 22 * 2 * 2
    assert 0.6 * decoded < summary.read_bytes < 1.1 * decoded
    assert json.loads(json.dumps(summary.to_dict()))["tiles"] == 16
    assert "16 of 40 px, read with context as 220 x 220 px" in summary.summary()


def test_a_task_that_does_not_fit_its_worker_is_refused_with_numbers(guided):
    context, plan, items = guided
    need = explain_plan(plan, context).memory_bytes
    assert make_plan(context.spec, items, context=context, worker_memory=need) == plan
    with pytest.raises(PlanError, match=r"needs about .*MiB for its window of 220 x 220 px, a task may use 1.0 MiB"):
        make_plan(context.spec, items, context=context, worker_memory=1 << 20)


def test_wrong_requests_are_refused_before_the_first_task(scenes):
    items, folder = scenes
    layers = {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}], "seasons": {"summer": [6]}}
    with pytest.raises(ContractError, match="summer_B08 is missing"):
        make_plan(make_spec(folder, model=save_network(folder), guide=layers), items)
    with pytest.raises(ContractError, match="the source is in 'Mg ha-1', the target in 'm'"):
        make_plan(make_spec(folder, target={"name": "height", "units": "m"}), items)
    layers["layers"][0]["bands"] = ["B99"]
    with pytest.raises(SpecError, match="unknown band 'B99' of sentinel-2-l2a: demo has B02"):
        make_plan(make_spec(folder, guide=layers), items)
    layers["layers"][0]["collection"] = "landsat"
    with pytest.raises(SpecError, match="unknown collection 'landsat'"):
        make_plan(make_spec(folder, guide=layers), items)


def test_channels_come_in_the_order_of_the_model(scenes):
    _, folder = scenes
    model = save_network(folder)
    layers = {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B02", "B08", "B04"]}], "seasons": {"summer": [6]}}
    assert make_context(make_spec(folder, model=model, guide=layers)).model.channels == (2, 1)


def test_context_takes_a_provider_and_a_card_of_ones_own(scenes):
    _, folder = scenes
    spec = make_spec(folder)
    provider = load_provider("demo").model_copy(update={"title": "mine"})
    context = make_context(spec, provider=provider, card=replace(read_card(spec.model), sha256="a" * 64))
    assert (context.provider.title, context.identity.model) == ("mine", "a" * 64)


def test_items_that_were_not_searched_as_far_as_windows_reach_are_refused(scenes):
    items, folder = scenes
    spec = make_spec(folder)
    card = read_card(spec.model)
    context = make_context(spec, card=replace(card, contract=replace(card.contract, halo_px=120)))
    assert context.halo_px == 170
    with pytest.raises(PlanError, match="searched 160 px around the area, tiles need 170 px of context"):
        make_plan(spec, items, context=context)
    wider = replace(items, query={**items.query, "margin_px": 170})
    assert len(make_plan(spec, wider, context=context)) == 16


def test_what_is_due_comes_with_its_reason(scenes, tmp_path):
    items, folder = scenes
    spec = make_spec(folder)
    context = make_context(spec)
    plan = make_plan(spec, items, context=context, only="0-1,0-3")
    store = str(tmp_path / "map.icechunk")
    assert {due.reason for due in find_pending(plan, None).todo} == {"never computed"}
    run_plan(plan, context, store, SerialExecutor())
    ledger = MapStore.open(store).ledger
    assert not find_pending(plan, ledger).todo
    assert len(find_pending(plan, ledger).done) == 8
    redone = find_pending(plan, ledger, redo=[Tile(1, 1)]).todo
    assert [(due.task.tile, due.cause) for due in redone] == [(Tile(1, 1), "redo")]

    other = replace(context, identity=replace(context.identity, model="e" * 64))
    stale = find_pending(make_plan(spec, items, context=other), ledger)
    unread = find_pending(make_plan(spec, items, context=other), ledger, explain=False)
    assert [(due.task, due.cause) for due in unread.todo] == [(due.task, due.cause) for due in stale.todo]
    assert {due.reason for due in unread.todo} == {"never computed", "stale"}
    assert stale.causes == {"stale": 8, "new": 8}
    assert all(due.reason.startswith("model changed") for due in stale.todo if due.cause == "stale")

    reprocessed = make_plan(spec, changed(items, "cci-2020", version="6"), context=context, only="0-1,0-3")
    reasons = [due.reason for due in find_pending(reprocessed, ledger).todo]
    assert len(reasons) == 8
    assert all(reason.startswith("item changed: esa-cci-biomass/cci-2020") for reason in reasons)
    gone = make_plan(spec, freeze_items([]), context=context, only="0,0")
    assert {due.reason for due in find_pending(gone, ledger).todo} == {"item removed: esa-cci-biomass/cci-2020"}


def test_a_band_that_no_item_has_is_refused_before_every_tile_is_empty(guided):
    context, _, items = guided
    source = context.spec.source
    copies = copy.deepcopy(list(items))
    for item in copies:
        if item["collection"] == source.collection:
            del item["assets"][context.provider.rule(source.collection).asset(item, source.band_names[0])]
    with pytest.raises(PlanError, match=rf"none of \d+ items of {source.collection} has {source.band_names[0]}, they"):
        make_plan(context.spec, freeze_items(copies, query=items.query), context=context)
