"""A small STAC API for tests: items in memory, served over HTTP by a process of its own, with faults on request.

Implements and advertises: core, collections, features, item search (GET and POST; bbox, datetime, ids, collections,
limit), token paging and the query extension (lt, lte, gt, gte, eq, neq, in); on request the filter extension, of which
it understands one comparison in CQL2-JSON.

    python tests/stac_server.py items.json [--drift N] [--fail N --status 429] [--no-count] [--no-query] [--filter]
        [--fault NAME ...] [--next merge|relative|get] [--get-only]

It prints its address, and answers ``/log`` with the requests it has served, ``/searches`` with the bodies of searches.
"""

import argparse
import json
import operator
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import shapely

CORE = "https://api.stacspec.org/v1.0.0"
CLASSES = [
    f"{CORE}/core", f"{CORE}/collections", f"{CORE}/ogcapi-features", f"{CORE}/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]  # fmt: skip
QUERY_CLASS = f"{CORE}/item-search#query"
FILTER_CLASSES = [f"{CORE}/item-search#filter", "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json"]
OPERATORS = {
    "lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge, "eq": operator.eq,
    "neq": operator.ne, "in": lambda value, options: value in options,
}  # fmt: skip
COMPARISONS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "=": "eq", "<>": "neq"}
PARAMETERS = {"bbox", "datetime", "ids", "collections", "limit", "query", "token", "filter", "filter-lang"}


class BadRequestError(Exception):
    """The request is not what this server implements."""


class Archive:
    """Items and the searches they answer."""

    def __init__(self, items, options):
        self.items = sorted(
            items, key=lambda item: (item["properties"].get("datetime") or "", item["id"]), reverse=True
        )
        self.tree = shapely.STRtree([shapely.geometry.shape(item["geometry"]) for item in self.items])
        self.collections = sorted({item["collection"] for item in items} | set(options.collection))
        self.options = options
        self.searches = 0

    def matches(self, request):
        known = PARAMETERS - {"query" if self.options.no_query else "", "" if self.options.filter else "filter"}
        unknown = set(request) - known
        if unknown:
            raise BadRequestError(f"not implemented: {sorted(unknown)}")
        if int(request.get("limit", 10)) > self.options.most:
            raise BadRequestError(f"limit is more than {self.options.most}")
        if self.options.filter == "deaf" and "filter" in request:
            return []
        found = range(len(self.items))
        if "bbox" in request:
            found = sorted(self.tree.query(shapely.box(*request["bbox"]), predicate="intersects").tolist())
        tests = [*self.plain_tests(request), *self.query_tests(request.get("query", {}))]
        if "filter" in request:
            subject, operand = request["filter"]["args"]
            word = COMPARISONS[request["filter"]["op"]]
            tests += self.query_tests({subject["property"]: {word: operand}})
        return [self.items[k] for k in found if all(test(self.items[k]) for test in tests)]

    def plain_tests(self, request):
        if "collections" in request:
            yield lambda item: item["collection"] in request["collections"]
        if "ids" in request:
            yield lambda item: item["id"] in request["ids"]
        if "datetime" in request:
            first, last = interval(request["datetime"])
            yield lambda item: span(item)[0] <= last and span(item)[1] >= first

    def query_tests(self, query):
        for name, conditions in query.items():
            for word, operand in conditions.items():
                if word not in OPERATORS:
                    raise BadRequestError(f"not implemented: query operator {word}")
                yield (
                    lambda item, name=name, word=word, operand=operand: (
                        item["properties"].get(name) is not None and OPERATORS[word](item["properties"][name], operand)
                    )
                )

    def page(self, request):
        found, faults = self.matches(request), self.options.fault
        token, limit = str(request.get("token", 0)), min(int(request.get("limit", 10)), self.options.page)
        start, empty = int(token.rstrip("e")), token.endswith("e")
        self.searches += start == 0
        last = start + limit >= len(found) and not empty
        features = [] if empty else found[0 if "stuck" in faults else start : start + limit]
        if "twice" in faults and start and features:
            features = [spoil(found[start - 1]) if "torn" in faults else found[start - 1], *features]
        if "lossy" in faults and not last:
            features = features[:-1]
        if self.searches <= self.options.drift and features:
            features = [item for k, item in enumerate(features) if k != self.searches % len(features)] or features[:0]
        answer = {"type": "FeatureCollection", "features": features, "links": []}
        if not self.options.no_count:
            answer["numberMatched"] = "many" if "words" in faults else len(found) + ("guess" in faults)
        if "endless" in faults or "stuck" in faults:
            return answer, start + limit
        if last:
            return answer, 0 if "round" in faults else None
        return answer, str(start) if empty else f"{start + limit}{'e' * ('gaps' in faults)}"


def spoil(item):
    """The same item with another footprint."""
    return {**item, "geometry": json.loads(shapely.to_geojson(shapely.box(0, 0, 50, 60)))}


def moment(text):
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def interval(text):
    first, _, last = text.partition("/")
    last = last or (first if "/" not in text else "..")
    return (
        datetime.min.replace(tzinfo=UTC) if first in ("", "..") else moment(first),
        datetime.max.replace(tzinfo=UTC) if last == ".." else moment(last),
    )


def span(item):
    properties = item["properties"]
    first = properties.get("start_datetime") or properties["datetime"]
    return moment(first), moment(properties.get("end_datetime") or properties.get("datetime") or first)


class Handler(BaseHTTPRequestHandler):
    """HTTP around an archive."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Keep quiet."""

    @property
    def root(self):
        return f"http://{self.headers['Host']}"

    def do_GET(self):
        parts = urlsplit(self.path)
        request = dict(parse_qsl(parts.query))
        for name, read in (("collections", "list"), ("ids", "list"), ("bbox", "numbers"), ("query", "json")):
            if name in request:
                text = request[name]
                request[name] = json.loads(text) if read == "json" else text.split(",")
                if read == "numbers":
                    request[name] = [float(value) for value in request[name]]
        self.answer(parts.path.rstrip("/"), request, post=False)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.options.get_only:
            self.send(405, {"code": "MethodNotAllowed"})
        else:
            self.answer(urlsplit(self.path).path, json.loads(body), post=True)

    def answer(self, path, request, *, post):
        server = self.server
        if path in ("/log", "/searches"):
            self.send(200, server.served if path == "/log" else server.searches)
            return
        server.served.append(f"{self.command} {path}")
        server.searches += [request] if post else []
        if server.failures > 0 and path == "/search":
            server.failures -= 1
            self.send(server.options.status, {"description": "busy"}, {"Retry-After": str(server.options.retry_after)})
            return
        try:
            content = self.route(path.strip("/").split("/"), request, post=post)
        except BadRequestError as error:
            self.send(400, {"code": "BadRequest", "description": str(error)})
        else:
            missing = content is None
            self.send(404 if missing else 200, {"code": "NotFound"} if missing else content)

    def route(self, parts, request, *, post):
        """What a path answers; None where there is nothing."""
        archive, answer = self.server.archive, None
        match parts:
            case [""]:
                answer = self.landing()
            case ["conformance"]:
                answer = {"conformsTo": self.classes()}
            case ["collections"]:
                answer = {"collections": [self.collection(name) for name in archive.collections], "links": []}
            case ["collections", name] if name in archive.collections:
                answer = self.collection(name)
            case ["collections", name, "items"] if name in archive.collections:
                answer = self.search({**request, "collections": [name]}, "items", post=False)
            case ["collections", name, "items", key]:
                answer = next(iter(archive.matches({"collections": [name], "ids": [key]})), None)
            case ["search"]:
                answer = self.search(request, "search", post=post)
        return answer

    def search(self, request, path, *, post):
        answer, token = self.server.archive.page(request)
        way = self.server.options.next
        href = f"{self.root}/{path}" if path == "search" else f"{self.root}{urlsplit(self.path).path}"
        href = urlsplit(href).path if way == "relative" else href
        if token is not None and post and way != "get":
            body = {"token": str(token)} if way == "merge" else {**request, "token": str(token)}
            link = {"rel": "next", "href": href, "method": "POST", "merge": way == "merge", "body": body}
            answer["links"] = [link]
        elif token is not None:
            plain = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in request.items()}
            plain = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in plain.items()}
            query = urlencode({**plain, "token": token})
            answer["links"] = [{"rel": "next", "href": f"{href}?{query}"}]
        return answer

    def classes(self):
        options = self.server.options
        return [*CLASSES, *([] if options.no_query else [QUERY_CLASS]), *(FILTER_CLASSES if options.filter else [])]

    def landing(self):
        links = [
            {"rel": "root", "href": self.root, "type": "application/json"},
            {"rel": "self", "href": self.root, "type": "application/json"},
            {"rel": "conformance", "href": f"{self.root}/conformance"},
            {"rel": "data", "href": f"{self.root}/collections"},
            {"rel": "search", "href": f"{self.root}/search", "type": "application/geo+json", "method": "GET"},
            {"rel": "search", "href": f"{self.root}/search", "type": "application/geo+json", "method": "POST"},
        ][: -1 if self.server.options.get_only else None]
        head = {"type": "Catalog", "id": "test", "stac_version": "1.0.0", "description": "items of a test"}
        return {**head, "conformsTo": self.classes(), "links": links}

    def collection(self, name):
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        head = {"type": "Collection", "id": name, "stac_version": "1.0.0", "description": name, "license": "other"}
        links = [{"rel": "items", "href": f"{self.root}/collections/{name}/items"}]
        return {**head, "extent": extent, "links": links}

    def send(self, status, content, headers=None):
        body = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("items", type=Path, help="JSON list of items")
    parser.add_argument("--collection", action="append", default=[], help="a collection without items")
    parser.add_argument("--page", type=int, default=1000, help="largest page")
    parser.add_argument("--most", type=int, default=10_000, help="refuse a larger limit")
    parser.add_argument("--drift", type=int, default=0, help="lose one item a page in the first N searches")
    parser.add_argument("--fail", type=int, default=0, help="answer the first N searches with --status")
    parser.add_argument("--fault", action="append", default=[], help="of paging: gaps, guess, lossy, twice, ...")
    parser.add_argument("--next", choices=("merge", "relative", "get"), help="what links to the next page look like")
    parser.add_argument("--get-only", action="store_true", help="search by GET alone")
    parser.add_argument("--status", type=int, default=503)
    parser.add_argument("--retry-after", type=int, default=0)
    parser.add_argument("--no-count", action="store_true", help="do not state numberMatched")
    parser.add_argument("--no-query", action="store_true", help="do not implement the query extension")
    parser.add_argument("--filter", nargs="?", const="on", choices=("on", "deaf"), help="implement, or only advertise")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.options = options
    server.archive = Archive(json.loads(options.items.read_text()), options)
    server.failures, server.served, server.searches = options.fail, [], []
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
