"""The CUDA kernels, run by Triton's interpreter where there is no CUDA device, against the plain form."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = """
import torch
from ag2_ns.ops.decode_triton import decode_seen
from ag2_ns.ops.sh import sh_colours
from ag2_ns.splat.anchors import Anchors, Children, decode

g = torch.Generator().manual_seed(0)
def draw(*shape):
    return torch.randn(*shape, generator=g)
n, a = 150, 7
anchors = Anchors(draw(a, 3), 0.1 + draw(a, 1).abs(), torch.ones(a, 3))
anchor = torch.randint(a, (n,), generator=g)
eye = draw(3)
quat = draw(n, 4)
fields = [draw(n, 3), draw(n, 3), draw(n, 1), draw(n, 3), draw(n, 15, 3)]
weights = [draw(n, 3), draw(n, 3), draw(n), draw(n, 3)]
for degree in range(4):
    found = []
    for fused in (True, False):
        offset, scale, logit, dc, rest = own = [f.clone().requires_grad_() for f in fields]
        if fused:
            out = decode_seen(anchors.xyz, anchors.radius, anchor, offset, scale, logit, dc, rest, eye, degree)
        else:
            seen = decode(anchors, Children(anchor, offset, dc, rest, scale, quat, logit))
            out = seen.means, seen.scales, seen.opacities, sh_colours(seen.sh, seen.means - eye, degree)
        sum((o * w).sum() for o, w in zip(out, weights)).backward()
        found.append([*out, *(f.grad if f.grad is not None else torch.zeros_like(f) for f in own)])
    for a_, b_ in zip(*found):
        assert torch.allclose(a_, b_, rtol=1e-4, atol=1e-5), (degree, (a_ - b_).abs().max())
print("equal")
"""


def test_equals_the_plain_form():
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]
