from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.rendering import choose_rasterizer


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_cpu_device_gets_the_cpu_backend(name):
    assert choose_rasterizer(name, "cpu").name == "cpu"
    assert choose_rasterizer(name, torch.device("cpu")).name == "cpu"


@pytest.mark.parametrize(
    "name, device, match",
    [
        ("torch", "cpu", "auto, gsplat, cpu"),
        ("gsplat", "cpu", "choose 'cpu' or 'auto'"),
        ("cpu", "cuda", "--machine.device-type cpu"),
    ],
)
def test_impossible_choices_are_one_line_with_a_remedy(name, device, match):
    with pytest.raises(UserError, match=match) as error:
        choose_rasterizer(name, device)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("name", ["auto", "gsplat"])
def test_cuda_asked_for_and_absent(name):
    with pytest.raises(UserError, match="finds no CUDA device"):
        choose_rasterizer(name, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["auto", "gsplat"])
def test_cuda_device_gets_gsplat(name):
    assert choose_rasterizer(name, "cuda").name == "gsplat"


@pytest.mark.slow
def test_importing_the_package_loads_no_backend():
    code = (
        "import sys, ag2_ns.rendering\n"
        "assert 'numba' not in sys.modules and not any(m.split('.')[0] == 'gsplat' for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
