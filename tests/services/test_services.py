from __future__ import annotations

import ast
from pathlib import Path

import pytest

from django_examplary import services


def test_every_service_is_typed_listed_and_found():
    """Type checkers, `import *` and the loader each have a list of their own."""
    tree = ast.parse(Path(services.__file__).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.name: statement.module
        for statement in typed.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    assert sorted(names) == sorted(services.__all__)
    for name, module in names.items():
        assert f"django_examplary.services.{services._HOMES[name]}" == module
        assert getattr(services, name) is not None


def test_there_is_no_other_service():
    with pytest.raises(AttributeError, match="no attribute 'provide_actor'"):
        services.provide_actor  # noqa: B018  # reading it is the test
