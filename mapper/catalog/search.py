"""Search of a map's items in a STAC API, a static catalogue on disk or a frozen file; the result is always frozen.

Archives are read while they are written to: a page can be lost or come twice. A STAC API is therefore asked until two
consecutive answers, read to their end, name the same items; otherwise the search fails. Counts that archives state are
often guesses, and are advice only. Cloud cover is left to an API that says it can filter; whatever the archive
filters, every item is tested here again.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from functools import partial
from itertools import islice
from typing import Any

import pystac
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError

from mapper.access.admission import Document, is_remote
from mapper.access.retry import RetryPolicy
from mapper.catalog.freeze import load_items
from mapper.catalog.items import DOCUMENT_KEY, ItemDict, Items, document_of, freeze_items, item_digest
from mapper.catalog.normalise import attribute_item, drop_superseded, find_refused, normalise_item
from mapper.catalog.pages import PageRequest, SearchChannel, count_of, read_pages
from mapper.catalog.provider import CollectionRule, Provider, location_of, provider_at
from mapper.catalog.query import MARGIN_PX, CollectionQuery, make_queries, make_source_query
from mapper.catalog.references import path_of
from mapper.catalog.static import read_catalog
from mapper.errors import SearchError
from mapper.redaction import redact_all, redact_href
from mapper.spec import MapSpec

_NAMED = 12
"""Number of collections that a message lists."""
_MOST_COLLECTIONS = 10_000
"""Number of collections that are looked through for similar names."""

_FAULTS = (
    APIError, pystac.STACError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
)  # fmt: skip
_log = logging.getLogger(__name__)

Answers = list[tuple[CollectionQuery, list[ItemDict]]]
"""Items in their normal form, by the query that they answer."""

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
    query = make_source_query(spec, collection)
    if collection != spec.source.collection:  # orbits and clouds are asked of the source: a truth has none
        query = replace(query, orbits=None, cloud_limit=100)
    return _search(spec, (query,), retry)


def _search(spec: MapSpec, queries: Sequence[CollectionQuery], retry: SearchRetry) -> Items:
    homes: dict[str, list[CollectionQuery]] = {}
    for query in queries:
        provider_at(spec.catalog_of(query.collection)).rule(query.collection)
        homes.setdefault(spec.catalog_of(query.collection).model_dump_json(), []).append(query)
    found: list[ItemDict] = []
    origins, rules = {}, dict[str, CollectionRule]()
    for asked in homes.values():
        home = spec.catalog_of(asked[0].collection)
        provider, location = provider_at(home), location_of(home)
        answers, origins[redact_href(location)], private = _ask(provider, location, asked, retry)
        document = Document(location=redact_href(location), private=private)
        found += [item for query, answer in answers for item in _admit(query, answer, provider, document)]
        rules |= {query.collection: provider.collections[query.collection] for query in asked}
    newest, superseded = drop_superseded(freeze_items(found), rules)
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
    query: CollectionQuery, answer: Sequence[ItemDict], provider: Provider, document: Document
) -> list[ItemDict]:
    rule, location = provider.rule(query.collection).access, document.location
    accepted = [attribute_item(item, _origin_of(item, document)) for item in answer if query.accepts(item)]
    if not accepted:
        near = f" ({len(answer)} items of the collection were looked at)" if answer else ""
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
        items = load_items(path_of(location))
        return _look_up(provider, location, {item["collection"] for item in items}, items, queries), items.query, False
    if not is_remote(location):
        catalog = read_catalog(path_of(location), collections={query.collection for query in queries})
        return _look_up(provider, location, catalog.collections, catalog.items, queries), {}, False
    answers, private = _ask_api(provider, location, queries, retry)
    return answers, {}, private


def _look_up(
    provider: Provider,
    location: str,
    names: Iterable[str],
    items: Iterable[ItemDict],
    queries: Sequence[CollectionQuery],
) -> Answers:
    names, located = set(names), location.endswith(".parquet")
    held: dict[str, dict[str, ItemDict]] = {}
    for query in queries:
        if query.collection not in names:
            raise _unknown(query.collection, names, location)
        held[query.collection] = {}
    for item in items:
        others = held.get(item["collection"])
        if others is None:
            continue
        normal = normalise_item(
            item,
            assets=provider.assets[item["collection"]],
            located=located,
            harmless=provider.rule(item["collection"]).access.files.query,
        )
        if _contradicts(others, normal):
            raise SearchError(f"{location} has two different items {item['id']!r} of {item['collection']}: remove one")
    return [(query, list(held[query.collection].values())) for query in queries]


def _contradicts(items: dict[str, ItemDict], item: ItemDict) -> bool:
    """Add an item to others by id; returns True if another one has its id."""
    rival = items.setdefault(str(item["id"]), item)
    return rival is not item and item_digest(rival) != item_digest(item)


def _ask_api(
    provider: Provider, endpoint: str, queries: Sequence[CollectionQuery], retry: SearchRetry
) -> tuple[Answers, bool]:
    channel = SearchChannel(retry.request, endpoint=endpoint, rule=provider.access)
    try:
        with _answering(endpoint):
            client = Client.open(endpoint, stac_io=channel)
            if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                raise SearchError(f"{endpoint} is no STAC API with item search")
            for query in queries:
                if client.get_collection(query.collection) is None:
                    names = {collection.id for collection in islice(client.get_collections(), _MOST_COLLECTIONS)}
                    raise _unknown(query.collection, names, endpoint)
            archive = partial(_Archive, client=client, channel=channel, provider=provider, endpoint=endpoint)
            answers = [(query, _ask_collection(archive(query=query), retry)) for query in queries]
            return answers, channel.reach.private
    finally:
        channel.session.close()


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """One collection of a STAC API, and the question that is put to it."""

    client: Client
    channel: SearchChannel
    provider: Provider
    endpoint: str
    query: CollectionQuery

    @property
    def method(self) -> str:
        """Return how searches are sent: by POST unless the API offers GET alone."""
        offered = {str(link.extra_fields.get("method") or "GET").upper() for link in self.client.get_links("search")}
        return "GET" if offered == {"GET"} else "POST"

    def ask(self, conditions: Mapping[str, Any], page: int) -> "_Answer":
        """Return one answer, read to its end in pages of so many items."""
        query = self.query
        wanted = self.client.search(
            method=self.method,
            collections=[query.collection],
            bbox=query.area.bounds,
            datetime=f"{query.start:%Y-%m-%dT%H:%M:%SZ}/{query.end:%Y-%m-%dT%H:%M:%SZ}",
            limit=page,
            **conditions,
        )
        first = PageRequest(href=wanted.url, method=self.method, body=wanted.get_parameters())
        return self._gather(read_pages(self.channel, first))

    def _gather(self, pages: Iterable[tuple[dict[str, Any], str]]) -> "_Answer":
        items: dict[str, ItemDict] = {}
        matched, largest, torn = None, 0, ""
        assets = self.provider.assets[self.query.collection]
        harmless = self.provider.rule(self.query.collection).access.files.query
        for page, address in pages:
            matched = count_of(page) if count_of(page) is not None else matched
            largest = max(largest, len(page["features"]))
            for item in page["features"]:
                if item.get("collection") == self.query.collection:
                    normal = normalise_item(item, assets=assets, base=address, harmless=harmless)
                    torn = str(item["id"]) if _contradicts(items, normal) else torn
        return _Answer(items=items, matched=matched, largest=largest, torn=torn)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """One answer to a query, all pages of it."""

    items: dict[str, ItemDict]
    matched: int | None
    """Number of items that the server says there are: some guess, some cap it."""
    largest: int
    """Number of items of the largest page."""
    torn: str
    """Id of an item that came twice and not the same; empty if there is none."""

    def agrees(self, other: "_Answer | None") -> bool:
        """Return True if another answer has the same items."""
        return other is not None and not self.torn and self.items.keys() == other.items.keys()

    def __str__(self) -> str:
        stated = "an unstated number" if self.matched is None else self.matched
        torn = f"; item {self.torn!r} came twice and not the same" if self.torn else ""
        return f"{len(self.items)} items of {stated}{torn}"

    @property
    def short(self) -> bool:
        """Return True if the server says that there are more items."""
        return self.matched is not None and len(self.items) < self.matched


def _ask_collection(archive: _Archive, retry: SearchRetry) -> list[ItemDict]:
    conditions = _filter_clouds(archive)
    found = _settle(partial(archive.ask, conditions), archive, retry)
    if conditions and not found:
        # there are servers that answer a filter which they do not understand with nothing: our own test decides
        found = _settle(partial(archive.ask, {}), archive, retry)
    return found


def _filter_clouds(archive: _Archive) -> dict[str, Any]:
    """Return search parameters that let the server filter by cloud cover, in a language that it declares."""
    client, limit = archive.client, archive.query.cloud_limit
    if limit >= 100 or archive.method == "GET":
        return {}
    speaks_cql2 = any(name.endswith("/conf/cql2-json") for name in client.get_conforms_to())
    if client.conforms_to(ConformanceClasses.FILTER) and speaks_cql2:
        condition = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, limit]}
        return {"filter": condition, "filter_lang": "cql2-json"}
    if client.conforms_to(ConformanceClasses.QUERY):
        return {"query": {"eo:cloud_cover": {"lte": limit}}}
    return {}


def _settle(ask: Callable[[int], _Answer], archive: _Archive, retry: SearchRetry) -> list[ItemDict]:
    """Repeat a query until two consecutive answers agree, and return the items.

    A count of more items than came is a guess, or says that items are lost where pages end: it is taken for a guess
    where pages of another size hold the same items.
    """
    limit = archive.provider.rule(archive.query.collection).access.limits.page
    previous, page, before = None, limit, limit
    for attempt in range(1, retry.query.attempts + 1):
        answer = ask(page)
        if answer.agrees(previous):
            if not answer.short or page != before or limit == 1:
                if answer.short:
                    _log.warning("%s gives %s in pages of any size: a guess", archive.endpoint, answer)
                return list(answer.items.values())
            before, page = page, limit if page < limit else max(1, min(limit - 1, answer.largest * 2 // 3))
        else:
            if previous is not None:
                _log.warning("%s gave %s, not the same as before", archive.endpoint, answer)
                time.sleep(retry.query.delay(attempt))
            before = page
        previous = answer
    raise SearchError(
        f"{archive.endpoint} did not give the same complete answer twice in {retry.query.attempts} attempts "
        f"(last: {answer}); asked for {archive.query}"
    )


@contextmanager
def _answering(endpoint: str) -> Iterator[None]:
    """Turn any fault of a server into one line."""
    try:
        yield
    except _FAULTS as error:
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
