"""Outlines are the pixels of a mask, whatever the parts that it is traced in."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.features import rasterize

from mapper.evaluation.objects import label_objects
from mapper.export.tracing import Tracer, trace_objects
from mapper.grid import Window

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def trace_parts(mask, values, edge, corner=(0, 0)):
    tracer = Tracer()
    for top in range(0, mask.shape[0], edge):
        for left in range(0, mask.shape[1], edge):
            part = (slice(top, top + edge), slice(left, left + edge))
            rows, cols = mask[part].shape
            window = Window(
                top=top + corner[0], left=left + corner[1], bottom=top + corner[0] + rows, right=left + corner[1] + cols
            )
            tracer.add(window, values[part], mask[part])
    return tracer.finish()


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_outlines_cover_exactly_the_pixels_of_each_object(mask):
    objects, (labels, number) = trace_objects(mask), label_objects(mask)
    assert len(objects) == number
    for each in objects:
        assert each.outline.is_valid
        assert each.outline.area == each.pixels
        covered = rasterize([each.outline], out_shape=mask.shape).astype(bool)
        assert len(set(labels[covered].tolist())) == 1, "one object, with no pixel beside it"
        assert covered.sum() == each.pixels


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(1, 7))
def test_parts_leave_no_trace(mask, edge):
    values = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    whole, parts = trace_parts(mask, values, 12), trace_parts(mask, values, edge)
    assert [(each.outline.wkb, each.pixels) for each in parts] == [(each.outline.wkb, each.pixels) for each in whole]
    assert [each.mean for each in parts] == pytest.approx([each.mean for each in whole])


def test_a_ring_that_lies_across_four_parts_keeps_its_hole():
    mask = np.ones((6, 6), bool)
    mask[2:4, 2:4] = False
    (ring,) = trace_parts(mask, np.where(mask, 2.0, np.nan), 3, corner=(100, 40))
    assert ring.outline.equals(shapely.box(40, 100, 46, 106) - shapely.box(42, 102, 44, 104))
    assert len(ring.outline.interiors[0].coords) == 5, "no corner where parts meet"
    assert ring.outline.exterior.is_ccw
    assert (ring.pixels, ring.mean) == (32, 2.0)


def test_corners_do_not_join_across_parts():
    assert len(trace_parts(np.eye(4, dtype=bool), np.ones((4, 4)), 2)) == 4


def test_nothing_has_no_objects():
    assert trace_objects(np.zeros((3, 4), bool)) == []
