"""`require` tells a missing package from a broken one."""

import json

import pytest

from utils.errors import UserError
from utils.loader import MissingExtra, require


def write_module(folder, name, source):
    (folder / f"{name}.py").write_text(source, encoding="utf-8")


def test_it_returns_the_module():
    assert require("json", "langchain") is json


def test_it_returns_the_submodule_and_not_its_parent():
    assert require("json.decoder", "langchain") is json.decoder


def test_a_missing_package_names_the_extra():
    with pytest.raises(MissingExtra) as caught:
        require("no_such_package_xyz", "frameworks")
    assert isinstance(caught.value, UserError)
    assert caught.value.problem == "the package no_such_package_xyz is not installed"
    assert caught.value.cure == "uv sync --extra frameworks"


def test_a_missing_parent_is_what_is_named():
    with pytest.raises(MissingExtra, match="the package no_such_parent_xyz is not installed"):
        require("no_such_parent_xyz.child", "optimize")


def test_a_missing_part_of_an_installed_namespace_is_named_in_full():
    with pytest.raises(MissingExtra, match=r"the package json\.no_such_part is not installed"):
        require("json.no_such_part", "llamaindex")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_dependency_xyz", ModuleNotFoundError),
        ("from json import no_such_name", ImportError),
        ("raise RuntimeError('broken')", RuntimeError),
    ],
)
def test_a_broken_import_inside_the_module_passes_unchanged(tmp_path, monkeypatch, source, error):
    name = f"broken_{abs(hash(source))}"
    write_module(tmp_path, name, source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(error) as caught:
        require(name, "frameworks")
    assert not isinstance(caught.value, MissingExtra)


def test_a_module_whose_dependency_only_starts_with_its_name_is_broken_not_missing(tmp_path, monkeypatch):
    write_module(tmp_path, "alpha_xyz_module", "import alpha_xyz")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError) as caught:
        require("alpha_xyz_module", "frameworks")
    assert caught.value.name == "alpha_xyz"
