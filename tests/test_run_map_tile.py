"""One tile: independent of tiling, complete in its record, and never a half-made one."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from run_maps import CRS, make_items, make_spec, save_network

from mapper.access.retry import RetryPolicy
from mapper.catalog.uses import ItemUse
from mapper.errors import CorruptAssetError, StoreFullError, TransientAssetError, WeightsError
from mapper.grid import Window
from mapper.plan.context import RunOptions, make_context
from mapper.plan.plan import make_plan
from mapper.predict.operators import block_mean
from mapper.predict.postprocess import Postprocessor, Reference
from mapper.predict.predictor import Prediction
from mapper.predict.quality import mask_of
from mapper.run import map_tile as task_module
from mapper.run.map_tile import compute_tile, run_task
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

WIDE = (10.0, 51.99, 10.03, 52.01)
"""Of 24 x 24 source pixels at most."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return make_items(folder, hole=(slice(46, 49), slice(42, 45))), folder


def tasks_of(spec, items, **options):
    context = make_context(spec, options=RunOptions(**options))
    return context, make_plan(spec, items, context=context).tasks


@pytest.fixture(scope="module")
def references(scenes):
    """Maps of one tile each, by model and consistency."""
    items, folder = scenes
    maps = {}

    def make(model, consistency):
        if (model, consistency) not in maps:
            spec = make_map(folder, model, consistency, tile=240)
            context, tasks = tasks_of(spec, items)
            assert len(tasks) == 1
            maps[model, consistency] = compute_tile(context, tasks[0]).arrays
        return maps[model, consistency]

    return make


def make_map(folder, model, consistency, *, tile, chunk=20):
    part = {"name": model} if model == "bicubic" else save_network(folder, architecture=model)
    grid = {"crs": CRS, "resolution": 10, "tile": tile, "chunk": chunk}
    return make_spec(folder, area=WIDE, model=part, consistency=consistency, grid=grid)


@pytest.mark.parametrize(
    ("model", "consistency"),
    [("bicubic", "soft"), ("bicubic", "below"), ("msg", "hard"), ("mtg", "none"), ("fdsr", "none")],
)
@pytest.mark.parametrize(
    ("tile", "chunk", "options"),
    [(60, 20, {}), (20, 20, {}), (28, 28, {}), (120, 20, {"patch_px": 240, "batch": 1})],
    ids=["60 px", "20 px", "28 px, which cuts source pixels", "small patches"],
)
def test_pixels_do_not_depend_on_tiles_patches_or_batches(scenes, references, model, consistency, tile, chunk, options):
    items, folder = scenes
    reference = references(model, consistency)
    context, tasks = tasks_of(make_map(folder, model, consistency, tile=tile, chunk=chunk), items, **options)
    for task in tasks[len(tasks) // 2 :][: 1 if tile == 120 else 2]:
        arrays = compute_tile(context, task).arrays
        rows, cols = context.grid.window(task.tile).slices
        assert rows.stop <= 240
        assert cols.stop <= 240
        assert np.isfinite(arrays["agb"]).any()
        for name, tolerance in (("agb", 1e-4), ("agb_sd", 1e-4), ("qa", 0), ("n_valid", 0)):
            expected = reference[name][rows, cols]
            np.testing.assert_allclose(arrays[name], expected, atol=tolerance, rtol=0, equal_nan=True)


def test_the_receptive_field_alone_would_not_do_for_consistency(scenes, references):
    """The margin of one source pixel has a reason: without it a source pixel at the edge is corrected wrongly."""
    items, folder = scenes
    context, tasks = tasks_of(make_map(folder, "msg", "hard", tile=28, chunk=28), items)
    context = replace(context, window_rule=replace(context.window_rule, halo_px=context.grid.scale))
    task = tasks[len(tasks) // 2]
    expected = references("msg", "hard")["agb"][context.grid.window(task.tile).slices]
    assert np.nanmax(np.abs(compute_tile(context, task).arrays["agb"] - expected)) > 1e-3


def test_block_means_sd_and_flags_follow_the_source(scenes):
    items, folder = scenes
    spec = make_spec(folder, tile=240, area=WIDE, model=save_network(folder), consistency="hard")
    context, tasks = tasks_of(spec, items)
    computed = compute_tile(context, tasks[0])
    arrays = computed.arrays
    assert np.nanmin(arrays["agb"]) >= 0
    assert computed.residuals["agb"] < 1e-3
    known = np.isfinite(arrays["agb"])
    inside = context.grid.inside_area(context.grid.window(tasks[0].tile))
    assert ((arrays["qa"] & mask_of("outside_area") > 0) == ~inside).all()
    assert (arrays["qa"][inside & ~known] == mask_of("source_missing")).all()
    assert (inside & ~known).any()
    assert (arrays["n_valid"][~known] == 0).all()
    assert 0 < arrays["n_valid"][known].max() <= 2
    whole = block_mean(inside & known, 10) == 1
    sd = block_mean(np.nan_to_num(arrays["agb_sd"]), 10)[whole]
    assert (sd == np.round(sd)).all()  # one stored value for all target pixels of a source pixel


@pytest.mark.parametrize("sees", [True, False])
def test_the_deviation_is_the_models_with_that_of_the_source_in_it(scenes, sees):
    items, folder = scenes
    context, tasks = tasks_of(make_map(folder, "mtg", "none", tile=240), items)
    core = Window(top=0, left=0, bottom=20, right=20)
    postprocessor = Postprocessor(
        spec=context.spec,
        contract=replace(context.contract, sees_source_sd=sees),
        scale=10,
        core=core,
        window=core,
        inside=np.ones((20, 20), bool),
    )
    outputs = {"agb": np.ones((20, 20), np.float32), "agb_sd": np.full((20, 20), 3, np.float32)}
    source = Reference(image=np.ones((1, 2, 2), np.float32), sd=np.array([[[4, 0], [np.nan, 4]]], np.float32))
    n_valid = np.ones((20, 20), np.uint16)
    bands, _ = postprocessor.finish(Prediction(outputs=outputs), source, n_valid=n_valid, flags={})
    np.testing.assert_allclose(bands["agb_sd"][::10, ::10], [[3, 3], [3, 3]] if sees else [[5, 3], [3, 5]])
    sd = compute_tile(context, tasks[0]).arrays["agb_sd"]
    assert np.unique(sd[np.isfinite(sd)]).size > 1000  # of each pixel, not of each source pixel


def test_a_tile_without_source_is_empty_and_reads_no_guide(scenes, tmp_path, monkeypatch):
    _, folder = scenes
    items = make_items(tmp_path / "hollow", hole=(slice(None), slice(None)))
    monkeypatch.setattr(task_module, "read_guide", lambda *_, **__: pytest.fail("the guide was read"))
    context, tasks = tasks_of(make_spec(folder, model=save_network(folder)), items)
    fork, record = run_task(None, context, tasks[0])
    assert fork is None
    assert (record.status, record.reason) == ("empty", "the source has no value here")
    assert record.content_sha256 == ""
    assert {use.id: bool(use.dropped) for use in record.items} == {
        "cci-2020": False,
        "S2_2020-06-03": True,
        "S2_2020-07-08": True,
    }


def test_the_record_tells_what_a_tile_was_made_from(scenes, tmp_path):
    items, folder = scenes
    spec = make_spec(tmp_path, tile=120, model=save_network(folder))
    context, tasks = tasks_of(spec, items)
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        fork, record = run_task(writer.fork(), context, tasks[0])
        writer.add(fork, record)
        assert writer.commit()
    assert (record.status, record.task_id, record.attempts) == ("ok", tasks[0].id, 1)
    assert [use.role for use in record.items] == ["guide", "guide", "source"]
    assert all(use.hrefs and use.calibration and not use.dropped for use in record.items)
    assert set(record.seconds) == {"read", "predict", "wait", "write"}
    assert (record.spec_digest, record.model_digest) == (spec.digest, context.identity.model)
    assert record.items_digest == tasks[0].items_digest
    assert record.value_min <= record.value_mean <= record.value_max
    assert record.valid_px > 0
    assert record.device == "cpu"
    assert "numpy==" in record.environment
    assert len(record.content_sha256) == 64


def test_a_model_that_looks_at_the_source_alone_reads_and_names_no_guide(scenes):
    items, folder = scenes
    context, tasks = tasks_of(make_spec(folder), items)
    assert all(len(task.guide) == 0 for task in tasks)
    computed = compute_tile(context, tasks[-1])
    assert [use.role for use in computed.uses] == ["source"]
    assert not (computed.arrays["qa"] & mask_of("few_observations", "guide_gap")).any()


class Flaky:
    """Fails some times before it reads."""

    def __init__(self, error, times, read):
        self.error, self.times, self.read = error, times, read

    def __call__(self, *args, **kwargs):
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return self.read(*args, **kwargs)


@pytest.mark.parametrize(("times", "status", "attempts"), [(2, "ok", 3), (3, "failed", 3)])
def test_transient_errors_are_tried_again_and_counted(scenes, monkeypatch, times, status, attempts):
    items, folder = scenes
    flaky = Flaky(TransientAssetError("HTTP 429", item="a"), times, task_module.read_source)
    monkeypatch.setattr(task_module, "read_source", flaky)
    monkeypatch.setattr(task_module, "write_tile", lambda *_, **__: "f" * 64)
    options = {"tile_retry": RetryPolicy(attempts=3, initial_backoff_s=0.001)}
    context, tasks = tasks_of(make_spec(folder), items, **options)
    fork, record = run_task("fork", context, tasks[0])
    assert (record.status, record.attempts) == (status, attempts)
    assert fork == ("fork" if status == "ok" else None)
    assert record.reason == ("" if status == "ok" else "TransientAssetError: HTTP 429")


@pytest.mark.parametrize("error", [MemoryError("9 GiB"), CorruptAssetError("truncated"), ValueError("two\nlines")])
def test_other_errors_make_a_failed_record_of_one_line_and_keep_no_fork(scenes, monkeypatch, error):
    items, folder = scenes
    monkeypatch.setattr(task_module, "read_source", Flaky(error, 1, None))
    context, tasks = tasks_of(make_spec(folder), items)
    fork, record = run_task("fork", context, tasks[0])
    assert fork is None
    assert (record.status, record.attempts) == ("failed", 1)
    assert record.reason == f"{type(error).__name__}: {str(error).replace(chr(10), ' ')}"
    assert [use.dropped for use in record.items] == ["the tile failed"]


@pytest.mark.parametrize("error", [StoreFullError("full"), WeightsError("other weights")])
def test_errors_that_concern_every_tile_are_raised(scenes, monkeypatch, error):
    items, folder = scenes
    monkeypatch.setattr(task_module, "write_tile", Flaky(error, 1, None))
    context, tasks = tasks_of(make_spec(folder), items)
    with pytest.raises(type(error)):
        run_task("fork", context, tasks[0])


def test_another_model_than_planned_is_refused(scenes):
    items, folder = scenes
    context, tasks = tasks_of(make_spec(folder), items)
    with pytest.raises(WeightsError, match="the plan was made for 000000000000"):
        compute_tile(replace(context, model=replace(context.require_model(), digest="0" * 64)), tasks[0])


def test_the_model_is_loaded_once(scenes, monkeypatch, tmp_path):
    items, folder = scenes
    loads = []
    load = task_module.load_model
    monkeypatch.setattr(task_module, "load_model", lambda model: loads.append(model) or load(model))
    context, tasks = tasks_of(make_spec(folder, model=save_network(tmp_path, seed=5)), items)
    for task in tasks[:3]:
        compute_tile(context, task)
    assert len(loads) == 1


def test_context_and_task_travel(scenes):
    items, folder = scenes
    context, tasks = tasks_of(make_spec(folder, model=save_network(folder)), items)
    other_context, other_task = pickle.loads(pickle.dumps((context, tasks[0])))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(
        compute_tile(context, tasks[0]).arrays["agb"], compute_tile(other_context, other_task).arrays["agb"]
    )


def test_item_uses_have_the_digest_of_the_plan(scenes):
    items, folder = scenes
    context, tasks = tasks_of(make_spec(folder, model=save_network(folder)), items)
    uses = compute_tile(context, tasks[5]).uses
    assert all(isinstance(use, ItemUse) for use in uses)
    assert {use.id for use in uses} == {item["id"] for item in (*tasks[5].guide, *tasks[5].source)}


def make_stack_spec(folder, model, *, tile, dates=2):
    stack = {
        "kind": "stack", "collection": "sentinel-2-l2a", "bands": ["B04", "B08"], "resolution": 10,
        "dates": dates, "cloud_limit": 100,
        "anchor": "2020-07-08",
    }  # fmt: skip
    return make_spec(
        folder,
        preset="sentinel2-multi",
        area=(10.0, 51.995, 10.012, 52.002),
        guide={},
        source=stack,
        model={"name": model},
        grid={"kind": "projected", "crs": CRS, "resolution": 5, "tile": tile, "chunk": 20},
        consistency={"operator": "gaussian-psf", "mtf": 0.3, "mode": "hard"},
    )


@pytest.mark.parametrize("model", ["bicubic", "median", "mean"])
def test_a_stack_of_several_bands_is_sharpened_without_seams(scenes, model):
    items, folder = scenes
    context, tasks = tasks_of(make_stack_spec(folder, model, tile=240), items)
    whole = compute_tile(context, next(iter(tasks)))
    assert list(whole.arrays) == list(context.product.band_names)
    assert np.isfinite(whole.arrays["B04"]).mean() > 0.3
    assert not np.array_equal(whole.arrays["B04"], whole.arrays["B08"])
    few = whole.arrays["qa"] & mask_of("few_dates") > 0
    inside = context.grid.inside_area(context.grid.window(next(iter(tasks)).tile))
    known = whole.arrays["n_valid"] > 0
    np.testing.assert_array_equal(few[known], whole.arrays["n_valid"][known] < 2)
    assert (inside & few).any()
    assert set(whole.residuals) == {"B04", "B08"}
    small, parts = tasks_of(make_stack_spec(folder, model, tile=60), items)
    for task in list(parts)[:3]:
        rows, cols = small.grid.window(task.tile).slices
        for name, array in compute_tile(small, task).arrays.items():
            np.testing.assert_allclose(array, whole.arrays[name][rows, cols], atol=1e-6, rtol=0, err_msg=name)
