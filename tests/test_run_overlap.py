"""Tiles overlap: while one is read, another is predicted and a third is written."""

import itertools
import threading

from run_maps import make_items, make_spec

from mapper.execute.executors import ThreadExecutor
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.predict.predictor import Predictor
from mapper.run import map_tile as task
from mapper.run.runner import run_plan


def test_one_tile_is_read_while_another_is_predicted_and_a_third_is_written(tmp_path, monkeypatch):
    meeting = threading.Barrier(3, timeout=60)  # breaks, and fails its tiles, unless all three stages are busy at once

    def meet_at(number, stage):
        calls = itertools.count(1)

        def call(*arguments, **options):
            if next(calls) == number:
                meeting.wait()
            return stage(*arguments, **options)

        return call

    monkeypatch.setattr(task, "read_source", meet_at(3, task.read_source))
    monkeypatch.setattr(Predictor, "predict", meet_at(2, Predictor.predict))
    monkeypatch.setattr(task, "write_tile", meet_at(1, task.write_tile))
    items, spec = make_items(tmp_path), make_spec(tmp_path)
    context = make_context(spec)
    report = run_plan(make_plan(spec, items, context=context), context, spec.store, ThreadExecutor(3))
    assert (report.failed, report.failures) == (0, ())
    assert report.done == report.tiles > 3
