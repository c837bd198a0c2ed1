import pytest
import torch
from random_gaussians import random_gaussians


@pytest.fixture
def gaussians():
    return random_gaussians(40)


@pytest.fixture
def anchor():
    return torch.arange(40) // 4
