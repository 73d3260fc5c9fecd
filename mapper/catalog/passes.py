"""Which items are one observation: those that one satellite recorded in one pass."""

import re
from datetime import UTC, date, timedelta
from typing import Any

from mapper.catalog.footprint import central_longitude
from mapper.catalog.items import ItemDict, item_datetime
from mapper.catalog.provider import CollectionRule

_SATELLITE = re.compile(r"^s(?:entinel)?-?(\d)-?([a-d])$")


def name_pass(item: ItemDict, rule: CollectionRule) -> str:
    """Which pass of which satellite an item is from: the solar day, and what the rule separates passes by."""
    flown = [_spell(item["properties"].get(name)) for name in rule.group_by]
    return " ".join(filter(None, [solar_day(item).isoformat(), *flown]))


def solar_day(item: ItemDict) -> date:
    """Day by the sun over the item: one pass must not fall on two days where it crosses midnight UTC."""
    moment = item_datetime(item).astimezone(UTC)
    return (moment + timedelta(hours=central_longitude(item) / 15)).date()


def _spell(value: Any) -> str:
    """A property in one spelling: archives write ``SENTINEL-1A``, ``Sentinel-1A`` and ``S1A``."""
    text = re.sub(r"[\s_]+", "-", str("" if value is None else value).strip().lower())
    found = _SATELLITE.match(text)
    return f"sentinel-{found[1]}{found[2]}" if found else text
