"""What a client says it has already: If-None-Match, by RFC 9110."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from store_maps import make_spec, write_tiles

from mapper.serve.app import make_app
from mapper.serve.conditions import is_known
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

CHARACTERS = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"')
TAGS = st.builds(lambda weak, text: f'{"W/" * weak}"{text}"', st.booleans(), st.text(CHARACTERS, max_size=8))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    spec = make_spec(tmp_path_factory.mktemp("conditions") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:4])
    return TestClient(make_app(spec.store))


@given(
    asked=st.lists(st.lists(TAGS, min_size=1, max_size=3), max_size=3),
    tag=TAGS,
    gap=st.sampled_from([",", ", ", " ,\t"]),
)
def test_a_tag_is_known_where_one_of_a_list_is_weakly_the_same(asked, tag, gap):
    headers = Headers(raw=[(b"if-none-match", gap.join(tags).encode()) for tags in asked])
    listed = {each.removeprefix("W/") for tags in asked for each in tags}
    assert is_known(headers, tag) == (tag.removeprefix("W/") in listed)


@pytest.mark.parametrize("asked", ["", "a", '"a', '"', '"b"', '"ab"', 'W/"b"', '*, "b"', '"*"', '"x"a"b"', "W/*"])
def test_other_tags_are_not_known(asked):
    assert not is_known(Headers({"if-none-match": asked}), '"a"')


def test_a_star_is_anything_that_is_there(client):
    assert is_known(Headers({"if-none-match": " * "}), '"a"')
    for path, status in (("/tilejson.json", 304), ("/health", 304), ("/nothing", 404), ("/pixel?x=0&y=0", 404)):
        assert client.get(path, headers={"If-None-Match": "*"}).status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path", ["/", "/static/leaflet/leaflet.js", "/tiles/main/agb/13/4369/2778.png", "/tiles/main/qa/13/4369/2778.npy",
             "/zarr/main/agb/c/0/0", "/zarr/main/zarr.json"],
)  # fmt: skip
def test_what_a_client_has_is_not_sent_again(client, path, method):
    first = client.request(method, path)
    tag = first.headers["etag"]
    for asked in (tag, f"W/{tag}", f'"other", {tag}', f'W/"b",{tag} ,"c"', "*"):
        again = client.request(method, path, headers={"If-None-Match": asked})
        assert (again.status_code, again.content) == (304, b""), asked
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert "content-length" not in again.headers
    for asked in ('"other"', tag[:-1], f'"x{tag[1:]}'):
        assert client.request(method, path, headers={"If-None-Match": asked}).status_code == 200


def test_a_tile_that_cannot_be_drawn_is_not_said_to_be_known(client):
    asked = {"If-None-Match": "*"}
    assert client.get("/tiles/main/agb/13/99999/2778.png", headers=asked).status_code == 404
    assert client.post("/stats", json={}, headers=asked).status_code == 422
