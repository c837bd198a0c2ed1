"""A tiny street, made once and copied."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def street_template(tmp_path_factory):
    from ag2_ns.synthetic.street import generate

    out = tmp_path_factory.mktemp("streets") / "street"
    return generate(
        out, seed=3, frames=2, eval_frames=1, width=48, height=28, patch=8, reach=8.0, progress=False
    )  # fmt: skip


@pytest.fixture
def street(street_template, tmp_path):
    """Two drives of 48 x 28 pixels, of one's own."""
    return shutil.copytree(street_template, tmp_path / "street")
