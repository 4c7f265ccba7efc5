from __future__ import annotations

import inspect

from django_examplary import services


def test_every_imported_name_is_public():
    imported = {
        name
        for name, value in vars(services).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }

    assert imported == set(services.__all__)
    assert sorted(services.__all__) == services.__all__
