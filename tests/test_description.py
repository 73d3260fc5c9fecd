"""Paths of a description refer to its folder; URLs and absolute paths stay."""

import random
import time
from fractions import Fraction
from pathlib import Path

import pytest
from mutations import alias_bomb, mutate
from pydantic import ValidationError

from mapper import description
from mapper.description import FilePath, Fractional, Location, Part, describe_faults, read_yaml
from mapper.errors import MapperError, SpecError
from mapper.spec import read_spec


class Described(Part):
    recipe: FilePath | None = None
    maps: tuple[FilePath, ...] = ()
    store: Location = "s3://bucket/store"


def test_relative_paths_refer_to_the_folder_of_the_description():
    made = Described.model_validate(
        {"recipe": "a.yaml", "maps": ["b/c.yaml", "/d.yaml"], "store": "out"}, context=Path("/home/me")
    )
    assert made.recipe == Path("/home/me/a.yaml")
    assert made.maps == (Path("/home/me/b/c.yaml"), Path("/d.yaml"))
    assert made.store == "/home/me/out"


def test_urls_and_what_is_made_without_a_folder_stay_as_they_are():
    assert Described.model_validate({"store": "s3://b/x"}, context=Path("/home")).store == "s3://b/x"
    assert Described(recipe=Path("a.yaml"), store="out") == Described.model_validate(
        {"recipe": "a.yaml", "store": "out"}
    )
    assert Described(store="out").store == "out"


def test_a_copy_does_not_move_paths():
    made = Described.model_validate({"recipe": "a.yaml"}, context=Path("/home/me"))
    assert made.model_copy(update={"store": "/x"}).recipe == Path("/home/me/a.yaml")


def test_faults_name_key_and_input():
    with pytest.raises(ValidationError) as caught:
        Described.model_validate({"recipe": 3, "colour": "red"})
    text = describe_faults(caught.value, "map")
    assert "recipe: " in text
    assert "(got 3)" in text
    assert "colour: unknown key" in text


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"prices .*none\.yaml cannot be read"):
        read_yaml(tmp_path / "none.yaml", what="prices")
    (tmp_path / "odd.yaml").write_text("a: [")
    with pytest.raises(SpecError, match="is not YAML"):
        read_yaml(tmp_path / "odd.yaml")


HOSTILE = {
    "aliases": (alias_bomb(), "more than 2000 entries"),
    "aliases in aliases": ("a: &a {b: *a}", "stands for itself"),
    "brackets": ("[" * 70 + "]" * 70, "nested deeper"),
    "indents": ("\n".join(f"{' ' * n}k:" for n in range(90)), "nested deeper"),
    "entries": ("[" + "0," * 3_000 + "]", "more than 2000 entries"),
    "size": ("#" * 2**21, "larger than 1 MiB"),
    "digits": (f"n: {'7' * 5000}", "a number of 5000 characters"),
    "a large integer": ("n: 99999999999999999999", "too large a number"),
    "hexadecimal": ("n: 0xffffffffffffffffffff", "too large a number"),
    "base 60": ("n: 59" + ":59" * 3000, "a number of"),
    "a large float": ("n: 1.0e+400", "too large a number"),
    "a key twice": ("grid: {}\nstore: a\ngrid: {}", "key 'grid' stands twice at line 3"),
    "a key twice inside": ("grid:\n  crs: a\n  crs: b", "key 'crs' stands twice"),
    "tabs": ("grid:\n\tcrs: a", "indent with spaces"),
    "no date": ("start: 2023-02-29", "'2023-02-29' is no date at line 1"),
    "an object": ("!!python/object/apply:os.getcwd []", "constructor"),
    "an empty float": ("n: !!float ''", "not what its tag says"),
    "two documents": ("a: 1\n---\na: 2", "single document"),
    "Latin-1": ("name: S\u00e3o Paulo".encode("latin-1"), "saved as UTF-8"),
    "UTF-16": ("name: a".encode("utf-16"), "saved as UTF-8"),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00", "saved as UTF-8"),
    "zeros": (bytes(100), "not YAML"),
}


@pytest.mark.parametrize(("content", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_would_take_for_ever_or_lose_a_key_is_refused_at_once(tmp_path, monkeypatch, content, words):
    monkeypatch.setattr(description, "_MOST_NODES", 2_000)
    path = tmp_path / "map.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    began = time.process_time()
    with pytest.raises(SpecError) as refused:
        read_yaml(path)
    assert time.process_time() - began < 2
    assert words in str(refused.value), refused.value
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/dev/null/map.yaml", "a\0b.yaml"])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(SpecError, match=r"cannot be read|larger"):
        read_yaml(path)


def test_what_people_write_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfplain: &p {a: 1, b: .inf}\nmore:\n  <<: *p\n  a: 2\nlist: [*p, 2020-02-29]\r\n")
    content = read_yaml(path)
    assert content["more"] == {"a": 2, "b": float("inf")}
    assert content["list"][0] == content["plain"]


class Numbers(Part):
    edge: float = 0.0
    pixel: Fractional = Fraction(1)


@pytest.mark.parametrize("edge", ["1e999", float("nan"), float("-inf"), "Infinity"])
def test_numbers_are_finite(edge):
    with pytest.raises(ValidationError, match="finite"):
        Numbers(edge=edge)


@pytest.mark.parametrize(
    "pixel", ["1e999999999", "1e-999999999", "1/0", "nan", "9" * 4000, "1/" + "9" * 4000, "ten", "", -1, 0]
)
def test_a_pixel_is_a_number_that_can_be_meant(pixel):
    began = time.process_time()
    with pytest.raises(ValidationError):
        Numbers(pixel=pixel)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("given", "pixel"),
    [(10, 10), ("1/11250", Fraction(1, 11250)), (2.5, Fraction(5, 2)), (1e-05, Fraction(1, 100_000))],
)
def test_a_pixel_is_exact(given, pixel):
    assert Numbers(pixel=given).pixel == pixel


@pytest.mark.parametrize("store", ["", "  ", "a\0b", "maps\n/agb"])
def test_a_location_is_one_that_can_exist(store):
    with pytest.raises(ValidationError, match="a path or a URL"):
        Described(store=store)


def test_a_message_is_short_however_much_is_wrong():
    with pytest.raises(ValidationError) as caught:
        Described.model_validate({f"key{n}": n for n in range(500)} | {"maps": ["x" * 10_000, 3]})
    text = describe_faults(caught.value, "map")
    assert len(text) < 1500
    assert "more" in text
    assert "\n" not in text


def test_random_damage_is_read_or_refused(tmp_path):
    """Tens here; thousands in tests/benchmarks/hostile_files.py."""
    rng, path = random.Random(3), tmp_path / "map.yaml"
    written = (Path(__file__).parent / "golden" / "maps" / "guided.yaml").read_bytes()
    for _ in range(40):
        path.write_bytes(mutate(written, rng))
        try:
            spec = read_spec(path)
        except MapperError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert spec.digest
