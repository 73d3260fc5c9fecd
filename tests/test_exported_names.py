"""The public names of mapper are a contract."""

import inspect

import mapper


def test_all_is_sorted_and_complete():
    assert list(mapper.__all__) == sorted(mapper.__all__)
    for name in mapper.__all__:
        assert getattr(mapper, name) is not None


def test_functions_are_verbs_documented_and_typed():
    for name in mapper.__all__:
        public = getattr(mapper, name)
        if inspect.isfunction(public):
            assert inspect.getdoc(public), f"{name} has no docstring"
            assert "return" in inspect.get_annotations(public), f"{name} has no return type"


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(mapper, "nothing_of_that_name")
