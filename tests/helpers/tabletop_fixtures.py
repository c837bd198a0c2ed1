"""Table-top scenes shared by this room's tests, made once."""

import pytest

from ag2_ns.synthetic.tabletop.generate import generate


@pytest.fixture(scope="session")
def tabletop_tiny(tmp_path_factory):
    """4 objects, 4 views, 64x48, perfect masks."""
    options = dict(seed=3, objects=4, views=4, width=64, height=48, noise=0.0, progress=False)
    return generate(tmp_path_factory.mktemp("tabletop") / "tiny", **options)


@pytest.fixture(scope="session")
def tabletop_noisy(tmp_path_factory):
    """The same small scene at noise levels 1 and 2: 8 objects, 10 views, 160x120."""
    folder = tmp_path_factory.mktemp("tabletop")
    options = dict(seed=1, objects=8, views=10, width=160, height=120, progress=False)
    return {n: generate(folder / f"noise{n}", noise=float(n), **options) for n in (1, 2)}
