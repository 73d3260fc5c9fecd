"""Search of a map's items in a STAC API, a static catalogue on disk or a frozen file; the result is always frozen.

Archives are read while they are written to: a page can be lost or come twice. A STAC API is therefore asked until two
consecutive answers name the same items and no fewer than it says it has; otherwise the search fails. Cloud cover is
left to an API that says it can filter; whatever the archive filters, every item is tested here again.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import pystac
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

from mapper.access.admission import Document, find_refusal
from mapper.access.connections import Reach, guard
from mapper.access.retry import RetryPolicy
from mapper.catalog.freeze import load_items
from mapper.catalog.items import DOCUMENT_KEY, ItemDict, Items, document_of, freeze_items
from mapper.catalog.normalise import drop_superseded, find_refused, normalise_item
from mapper.catalog.provider import Provider, location_of, provider_at
from mapper.catalog.query import MARGIN_PX, CollectionQuery, make_queries, make_source_query
from mapper.catalog.static import read_catalog
from mapper.errors import SearchError
from mapper.redaction import redact_all, redact_href
from mapper.spec import MapSpec

_NAMED = 12
"""Number of collections that a message lists."""

_log = logging.getLogger(__name__)

Answers = list[tuple[CollectionQuery, list[ItemDict]]]


_REQUEST = RetryPolicy(attempts=7, initial_backoff_s=0.5, read_timeout_s=60.0)
_QUERY = RetryPolicy(attempts=5, initial_backoff_s=1.0, least_share=1.0)


@dataclass(frozen=True, kw_only=True)
class SearchRetry:
    """Retries of a search: of single requests, and of whole queries until two answers agree."""

    request: RetryPolicy = _REQUEST
    """For one request that was throttled or failed; a server's own Retry-After goes first."""
    query: RetryPolicy = _QUERY
    """For one query, until its answers count as not repeatable; the pause is that after two answers that differ."""

    def __post_init__(self) -> None:
        if self.query.attempts < 2:
            raise ValueError(f"attempts must be at least 2, since two answers have to agree, got {self.query.attempts}")


SEARCH_RETRY = SearchRetry()


def search(spec: MapSpec, *, retry: SearchRetry = SEARCH_RETRY, margin_px: int = MARGIN_PX) -> Items:
    """Find the items of a map and return them frozen.

    Args:
        spec: The map; ``catalog.href`` is a STAC API, a ``catalog.json`` on disk or a ``.parquet`` of frozen items.
        retry: Attempts, pauses and timeouts.
        margin_px: Target pixels around the area to search in too, at least 160.

    Returns:
        Items with absolute, unsigned locations; of every scene the newest processing, no repeats. Their query says
        what was asked, of whom and when.

    Raises:
        SpecError: If the provider is unknown or does not describe a collection.
        SearchError: If a collection does not exist, has no item, or the archive does not answer or not repeat itself.
        GridError: If the area cannot be mapped.
    """
    margin_px = max(margin_px, MARGIN_PX)
    items = _search(spec, make_queries(spec, margin_px=margin_px), retry)
    wider = {"margin_px": margin_px} if margin_px > MARGIN_PX else {}
    return replace(items, query={**items.query, **wider})


def search_collection(spec: MapSpec, collection: str, *, retry: SearchRetry = SEARCH_RETRY) -> Items:
    """Find the items of one more collection, such as a truth, for the area of a map and the time of its source.

    Raises:
        SpecError: If the provider is unknown or does not describe the collection.
        SearchError: As :func:`search`.
        GridError: If the area cannot be mapped.
    """
    return _search(spec, (make_source_query(spec, collection),), retry)


def _search(spec: MapSpec, queries: Sequence[CollectionQuery], retry: SearchRetry) -> Items:
    homes: dict[str, list[CollectionQuery]] = {}
    for query in queries:
        provider_at(spec.catalog_of(query.collection)).rule(query.collection)
        homes.setdefault(spec.catalog_of(query.collection).model_dump_json(), []).append(query)
    found: list[ItemDict] = []
    origins = {}
    for asked in homes.values():
        home = spec.catalog_of(asked[0].collection)
        provider, location = provider_at(home), location_of(home)
        answers, origins[redact_href(location)], private = _ask(provider, location, asked, retry)
        document = Document(location=redact_href(location), private=private)
        found += [item for query, answer in answers for item in _admit(query, answer, provider, document)]
    newest, superseded = drop_superseded(freeze_items(found))
    _log.info("found %d items at %s, %d superseded", len(newest), ", ".join(origins), len(superseded))
    origin = {
        "searched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "queries": describe_queries(spec, queries),
        "superseded": superseded,
        "origins": {location: redact_all(dict(asked)) for location, asked in origins.items() if asked},
    }
    return freeze_items(newest, query=origin)


def describe_queries(spec: MapSpec, queries: Sequence[CollectionQuery]) -> list[dict[str, Any]]:
    """Describe the queries and the catalogues they go to, as stored with the items."""
    homes = [spec.catalog_of(query.collection) for query in queries]
    return [
        {"provider": provider_at(home).name, "endpoint": redact_href(location_of(home)), **query.to_dict()}
        for home, query in zip(homes, queries, strict=True)
    ]


def _admit(
    query: CollectionQuery, answer: Iterable[ItemDict], provider: Provider, document: Document
) -> list[ItemDict]:
    rule, location = provider.rule(query.collection).access, document.location
    admitted = [
        normalise_item(
            item,
            assets=provider.assets[query.collection],
            document=_origin_of(item, document),
            harmless=rule.files.query,
        )
        for item in answer
    ]
    accepted = [item for item in admitted if query.accepts(item)]
    if not accepted:
        near = f" ({len(admitted)} items of the collection were looked at)" if admitted else ""
        raise SearchError(f"no item found at {location}{near}; asked for {query}")
    # an item that is not read is left out of every tile, by name: it is not lost here without a word
    refused = [reason for item in accepted if (reason := find_refused(item, rule))]
    if refused and len(refused) == len(accepted):
        raise SearchError(f"no item of {query.collection} at {location} can be read; {refused[0]}")
    if refused:
        _log.warning("%d of %d items at %s are not read; %s", len(refused), len(accepted), location, refused[0])
    return accepted


def _origin_of(item: ItemDict, document: Document) -> Document:
    """Return the catalogue that an item was found in: that of an earlier search, where it comes from a frozen file."""
    frozen = document.location.endswith(".parquet") and document.is_local
    kept = frozen and any(DOCUMENT_KEY in link for link in item.get("links") or ())
    return document_of(item) if kept else document


def _ask(
    provider: Provider, location: str, queries: Sequence[CollectionQuery], retry: SearchRetry
) -> tuple[Answers, Mapping[str, Any], bool]:
    """Return answers to queries, the query that found frozen items, and True for an archive on a private network."""
    if location.endswith(".parquet"):
        items = load_items(location)
        return _look_up(location, {item["collection"] for item in items}, items, queries), items.query, False
    if "://" not in location:
        catalog = read_catalog(location, collections={query.collection for query in queries})
        return _look_up(location, catalog.collections, catalog.items, queries), {}, False
    answers, private = _ask_api(provider, location, queries, retry)
    return answers, {}, private


def _look_up(
    location: str, names: Iterable[str], items: Iterable[ItemDict], queries: Iterable[CollectionQuery]
) -> Answers:
    names = set(names)
    held: dict[str, list[ItemDict]] = {name: [] for name in names}
    for item in items:
        held[item["collection"]].append(item)
    for query in queries:
        if query.collection not in names:
            raise _unknown(query.collection, names, location)
    return [(query, held[query.collection]) for query in queries]


class _Channel(StacApiIO):
    """Requests to one catalogue; what it links to is held against the same rule as its files."""

    def __init__(self, endpoint: str, provider: Provider, policy: RetryPolicy) -> None:
        retries = Retry(
            total=policy.attempts - 1,
            connect=min(2, policy.attempts - 1),
            backoff_factor=policy.initial_backoff_s,
            backoff_jitter=policy.initial_backoff_s,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,  # a search by POST changes nothing
        )
        super().__init__(max_retries=retries, timeout=(policy.connect_timeout_s, policy.read_timeout_s))
        self.endpoint, self.rule = endpoint, provider.access
        self.reach = Reach(endpoint, private=provider.access.files.private)
        for adapter in self.session.adapters.values():
            guard(adapter.poolmanager, self.reach)  # type: ignore[attr-defined]

    def read_text(self, source: pystac.link.HREF, *args: Any, **kwargs: Any) -> str:
        """Return what an address answers, of the catalogue itself or that it links to; never a file."""
        href = source.href if isinstance(source, pystac.Link) else str(source)
        refusal = find_refusal(href, Document(location=self.endpoint, private=self.reach.private), self.rule)
        if refusal or "://" not in href:
            raise SearchError(f"{self.endpoint} links to {href}, which is not read: {refusal or 'it is no address'}")
        return super().read_text(source, *args, **kwargs)


def _ask_api(
    provider: Provider, endpoint: str, queries: Sequence[CollectionQuery], retry: SearchRetry
) -> tuple[Answers, bool]:
    channel = _Channel(endpoint, provider, retry.request)
    try:
        with _answering(endpoint):
            client = Client.open(endpoint, stac_io=channel)
            if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                raise SearchError(f"{endpoint} is no STAC API with item search")
            for query in queries:
                if client.get_collection(query.collection) is None:
                    names = [collection.id for collection in client.get_collections()]
                    raise _unknown(query.collection, names, endpoint)
            answers = [(query, _ask_collection(client, query, provider, endpoint, retry)) for query in queries]
            return answers, channel.reach.private
    finally:
        channel.session.close()


def _ask_collection(
    client: Client, query: CollectionQuery, provider: Provider, endpoint: str, retry: SearchRetry
) -> list[ItemDict]:
    page = provider.rule(query.collection).access.limits.page
    conditions = _filter_clouds(client, query)
    found = _settle(partial(_ask_once, client, query, page, conditions), query, endpoint, retry)
    if conditions and not found:
        # there are servers that answer a filter which they do not understand with nothing: our own test decides
        found = _settle(partial(_ask_once, client, query, page, {}), query, endpoint, retry)
    return found


def _filter_clouds(client: Client, query: CollectionQuery) -> dict[str, Any]:
    """Return search parameters that let the server filter by cloud cover, in a language that it declares."""
    if query.cloud_limit >= 100:
        return {}
    speaks_cql2 = any(name.endswith("/conf/cql2-json") for name in client.get_conforms_to())
    if client.conforms_to(ConformanceClasses.FILTER) and speaks_cql2:
        condition = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, query.cloud_limit]}
        return {"filter": condition, "filter_lang": "cql2-json"}
    if client.conforms_to(ConformanceClasses.QUERY):
        return {"query": {"eo:cloud_cover": {"lte": query.cloud_limit}}}
    return {}


def _settle(
    ask: Callable[[], tuple[dict[str, ItemDict], int | None]],
    query: CollectionQuery,
    endpoint: str,
    retry: SearchRetry,
) -> list[ItemDict]:
    """Repeat a query until two consecutive answers agree and are complete; returns the items."""
    previous: dict[str, ItemDict] | None = None
    for attempt in range(1, retry.query.attempts + 1):
        answer, matched = ask()
        # some servers cap the count they state: only a larger one means that items are missing
        complete = matched is None or len(answer) >= matched
        if complete and previous is not None and answer.keys() == previous.keys():
            return list(answer.values())
        if previous is not None or not complete:
            _log.warning("%s gave %d of %s items, not the same as before", redact_href(endpoint), len(answer), matched)
            time.sleep(retry.query.delay(attempt))
        previous = answer if complete else None
    raise SearchError(
        f"{endpoint} did not give the same complete answer twice in {retry.query.attempts} attempts "
        f"(last: {len(answer)} items of {'an unstated number' if matched is None else matched}); asked for {query}"
    )


def _ask_once(
    client: Client, query: CollectionQuery, page: int, conditions: Mapping[str, Any]
) -> tuple[dict[str, ItemDict], int | None]:
    """Return one answer: items by id, and the server's count of them (None if it states none)."""
    pages = client.search(
        collections=[query.collection],
        bbox=query.area.bounds,
        datetime=f"{query.start:%Y-%m-%dT%H:%M:%SZ}/{query.end:%Y-%m-%dT%H:%M:%SZ}",
        limit=page,
        **conditions,
    ).pages_as_dicts()
    items: dict[str, ItemDict] = {}
    matched: int | None = None
    for answer in pages:
        stated = answer.get("numberMatched")
        if stated is None:
            stated = (answer.get("context") or {}).get("matched")
        matched = matched if stated is None else int(stated)
        items |= {item["id"]: item for item in answer["features"]}
    return items, matched


@contextmanager
def _answering(endpoint: str) -> Iterator[None]:
    """Turn any fault of a server into one line."""
    try:
        yield
    except (APIError, pystac.STACError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # pystac trusts the shape of what it parses: another service's JSON fails in any of these ways
        line = " ".join(str(error).split())
        raise SearchError(f"{endpoint} cannot be searched: {line[:300]}") from error


def _unknown(name: str, names: Iterable[str], location: str) -> SearchError:
    """Return an error that lists the collections there are, the most similar first where there are many."""
    known = sorted(names)
    if len(known) > _NAMED:
        known.sort(key=lambda other: -SequenceMatcher(None, name, other).ratio())
        known = [*known[:_NAMED], f"and {len(known) - _NAMED} more"]
    return SearchError(f"unknown collection {name!r}: {location} has {', '.join(known) or 'none'}")
