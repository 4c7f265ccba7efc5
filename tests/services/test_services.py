from __future__ import annotations

import inspect

from django_examplary import services


def test_every_public_service_is_listed():
    public = {
        name
        for name, value in vars(services).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }

    assert public - {"annotations"} == set(services.__all__)
    assert list(services.__all__) == sorted(services.__all__)
