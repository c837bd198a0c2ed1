"""Fixtures shared by all tests, and the rule that GPU tests skip where there is no CUDA."""

import pytest
import torch

pytest_plugins = ["lifted_fixtures", "street_fixtures", "tabletop_fixtures", "viewer_fixtures"]


def pytest_collection_modifyitems(config, items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def colours_only(monkeypatch):
    """`ag2 prepare` describes masks by colours, as where the extra `words` with its models is not installed."""
    monkeypatch.setattr("ag2_ns.perception.kinds.available", lambda: False)
