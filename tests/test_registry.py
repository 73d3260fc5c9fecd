"""Registries hold what is theirs and what installed packages offer, and name the package where that is broken."""

import pytest

from mapper.errors import InputError
from mapper.registry import Registry


@pytest.fixture
def registry():
    return Registry("mapper.toys", {"b": 1, "a": 2}, kind=int)


def test_own_objects_come_first_then_those_of_packages_by_name(registry, offer):
    offer(registry, z=3, y=4)
    assert dict(registry) == {"b": 1, "a": 2, "y": 4, "z": 3}
    assert list(registry) == ["b", "a", "y", "z"]
    assert len(registry) == 4
    assert "x" not in registry
    with pytest.raises(KeyError):
        registry["x"]


def test_nothing_is_imported_before_it_is_read(registry, offer):
    offer(registry, module="stars", z=3)
    assert registry.group == "mapper.toys"
    with pytest.raises(InputError):
        list(registry)


def test_another_group_is_not_read(registry, offer):
    offer(Registry("mapper.others", {}), z=3)
    assert list(registry) == ["b", "a"]


def test_a_package_that_cannot_be_imported_is_named(registry, offer):
    offer(registry, module="stars", z=3)
    with pytest.raises(InputError, match=r"mapper\.toys:z .* of toys cannot be imported .*stars.*uninstall"):
        len(registry)


def test_an_object_of_another_kind_is_named(registry, offer):
    offer(registry, z="three")
    with pytest.raises(InputError, match=r"z .* of toys is 'three', expected <class 'int'>"):
        len(registry)


def test_a_name_that_is_taken_is_refused(registry, offer):
    offer(registry, a=3)
    with pytest.raises(InputError, match=r"a .* of toys is named like another entry"):
        len(registry)


def test_kinds_may_be_classes(offer):
    numbers = Registry("mapper.toys", {}, kind=type[int])
    offer(numbers, z=bool)
    assert numbers["z"] is bool
    with pytest.raises(InputError, match="expected type"):
        len(Registry("mapper.toys", {}, kind=type[str]))
