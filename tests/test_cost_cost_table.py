"""Tables of a forecast: units everywhere, columns that line up, three digits that count."""

from dataclasses import replace

import pytest

from mapper.cost.cost_table import CostRow, tabulate
from mapper.text import describe_bytes

LINE = CostRow(
    name="reading", unit="h", estimated=1234.6, calibrated=1500.0, low=1400.0, high=1600.0, actual=100.0, expected=80.0
)
NEW = replace(LINE, calibrated=None, low=None, high=None, actual=None, expected=None)


def words(table):
    return " ".join(table.splitlines()[1].split())


def test_what_is_shown_depends_on_how_far_the_map_is():
    assert tabulate("", [NEW], state="new", done="").splitlines() == [
        "              estimated",
        "reading         1,235 h",
    ]
    pilot = tabulate("", [LINE], state="pilot", done="4 of 40 tiles")
    assert pilot.splitlines()[0].split("  ")[-2:] == ["actual, 4 of 40 tiles", "off by"]
    assert words(pilot) == "reading 1,235 h 1,500 h 1,400 - 1,600 h 100 h -20 %"
    complete = tabulate("", [LINE], state="complete", done="40 tiles")
    assert words(complete) == "reading 1,235 h -20 % 1,500 h 1,400 - 1,600 h +1400 % 100 h"


def test_all_rows_are_as_long_as_the_head():
    lines = [LINE, replace(LINE, name="bytes read", unit="B"), replace(NEW, name="requests", unit="")]
    assert (
        len({len(row) for row in tabulate("cost in EUR", lines, state="pilot", done="4 of 40 tiles").splitlines()}) == 1
    )


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("h", 0.0, "0 h"),
        ("h", 0.000123456, "0.000123 h"),
        ("h", 12.3456, "12.3 h"),
        ("h", 123456.7, "123,457 h"),
        ("EUR", 0.5, "0.500"),
        ("EUR", 98765.4, "98,765"),
        ("", 1234567.8, "1,234,568"),
        ("B", 3 * 2**30, "3.0 GiB"),
    ],
)
def test_numbers_have_three_digits_or_more_and_their_unit(unit, value, shown):
    row = tabulate("", [replace(NEW, unit=unit, estimated=value)], state="new", done="").splitlines()[1]
    assert row.removeprefix("reading").strip() == shown


def test_bytes_are_told_in_the_unit_that_suits_them():
    assert [describe_bytes(2.0**k) for k in (3, 13, 23, 33, 43, 53)] == [
        "8 B", "8.0 KiB", "8.0 MiB", "8.0 GiB", "8.0 TiB", "8192.0 TiB",
    ]  # fmt: skip


def test_errors_are_those_of_the_tiles_that_have_run():
    assert LINE.error == pytest.approx(-0.2)
    assert NEW.error is None
    assert replace(LINE, actual=0.0).error is None


def test_a_line_for_each_divides_what_has_run_by_what_has_run():
    each = LINE.scaled("per tile", by=10, by_done=4)
    assert (each.estimated, each.calibrated, each.low, each.high) == (123.46, 150, 140, 160)
    assert (each.actual, each.expected) == (25, 20)
    assert NEW.scaled("per tile", by=10, by_done=0).actual is None
