"""The compiled loops, and the CUDA kernels as Triton's interpreter runs them, against the plain form."""

import pytest
from own_process import run_script

pytest.importorskip("triton")

SCRIPT = """
import torch
from ag2_ns.ops import decode_triton
from ag2_ns.ops.decode import decode_seen
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
if TRITON:  # the interpreter runs the kernels on tensors of the CPU
    from ag2_ns.ops import decode_kernels
    import ag2_ns.ops.decode as dispatch
    def called(kernel, count, *arrays, minimum):
        a = [torch.from_numpy(a) if hasattr(a, "shape") else a for a in arrays]
        if kernel is decode_kernels.decode:
            decode_triton.decode(tuple(a[:9]), a[9], tuple(a[10:]))
        else:
            decode_triton.decode_backward((*a[:4], *a[5:9]), a[4], tuple(a[9:13]), tuple(a[13:]))
    dispatch.for_ranges = called
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


@pytest.mark.parametrize("triton", [True, False])
def test_equals_the_plain_form(triton):
    done = run_script(SCRIPT.replace("TRITON", str(triton)), interpreted=triton)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]
