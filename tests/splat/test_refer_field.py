import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering.cpu import CpuRasterizer
from ag2_ns.splat.refer_field import (
    PRESETS,
    ReferField,
    ReferFieldConfig,
    best_node,
    contrast_loss,
    mask_loss,
    pick_pseudo_mask,
    ratio_at,
    selected,
)
from ag2_ns.splat.refer_training import Sample, draw_response, load_field, save_field, train_field


@pytest.fixture
def xyz():
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


def field_of(xyz, words=12, **changes):
    torch.manual_seed(1)
    field = ReferField(xyz, words, ReferFieldConfig(**changes))
    torch.nn.init.normal_(field.feature)
    return field


@pytest.mark.parametrize("projections", [True, False])
@pytest.mark.parametrize("positions", [True, False])
def test_attention_against_loops(xyz, projections, positions):
    field = field_of(xyz, projections=projections, use_positions=positions, scale_words=not projections)
    text = torch.randn(5, 12)
    response, attended = field(text)
    g, w = field.up(field.feature), field.text(text)
    p = torch.nn.functional.normalize(field.place(field.xyz), dim=1)
    p_w = []
    for word in w:
        score = torch.stack([word @ row for row in g]) / (math.sqrt(128) if not projections else 1)
        p_w.append(sum(a * row for a, row in zip(torch.softmax(score, 0), p)))
    for i in range(len(g)):
        keys, values = [], []
        for word, place in zip(w, p_w):
            if projections:
                keys.append(field.key(word) + (field.key_place(place) if positions else 0))
                values.append(field.value(word))
            else:
                keys.append(word + (place if positions else 0))
                values.append(word)
        q = field.query(g[i]) if projections else g[i]
        if positions:
            q = q + (field.query_place(p[i]) if projections else p[i])
        weight = torch.softmax(torch.stack([q @ k for k in keys]) / math.sqrt(128), 0)
        out = g[i] + sum(a * v for a, v in zip(weight, values))
        out = field.norm(out) if projections else out
        assert torch.allclose(attended[i], out, atol=1e-5)
        assert torch.allclose(response[i], sum(out @ word for word in w), atol=1e-4)


def test_gradients_reach_everything(xyz):
    field = field_of(xyz)
    response, attended = field(torch.randn(4, 12))
    (response.square().mean() + attended.mean()).backward()
    for name, parameter in field.named_parameters():
        if not name.startswith("key."):  # the bias of keys does not change a softmax
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_gradcheck_of_the_losses():
    logit = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    mask = torch.rand(3, 4) > 0.5
    assert torch.autograd.gradcheck(lambda x: mask_loss(x, mask), logit)
    attended = torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    sentences = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    response = torch.arange(6, dtype=torch.double)
    positive = torch.tensor([True, False, True])
    for mean in (False, True):
        config = ReferFieldConfig(mean_positives=mean)
        check = lambda a, s, c=config: contrast_loss(a, response, s, positive, 0.4, c)  # noqa: E731
        assert torch.autograd.gradcheck(check, (attended, sentences))


def test_contrast_against_its_formula():
    attended, response = torch.randn(10, 4), torch.randn(10)
    sentences, positive = torch.randn(4, 4), torch.tensor([True, False, True, False])
    top = response.argsort(descending=True)[:3]
    z = torch.nn.functional.normalize(attended[top].mean(0), dim=0)
    s = [float(z @ torch.nn.functional.normalize(e, dim=0)) / 0.1 for e in sentences]
    code = math.log(1 + sum(math.exp(s[n] - s[p]) for p in (0, 2) for n in (1, 3)))
    paper = sum(-s[p] + math.log(sum(math.exp(v) for v in s)) for p in (0, 2)) / 2
    for config, value in ((ReferFieldConfig(), code), (PRESETS["paper"], paper)):
        assert float(contrast_loss(attended, response, sentences, positive, 0.3, config)) == pytest.approx(value, 1e-4)
    assert float(contrast_loss(attended, response, sentences, positive | True, 0.3, ReferFieldConfig())) == 0


def test_the_ratio_falls():
    code, paper = PRESETS["code"], PRESETS["paper"]
    assert ratio_at(code, 0) == 0.1 and ratio_at(code, 1999) == 0.1 and ratio_at(code, 2000) == pytest.approx(0.06)
    assert ratio_at(code, 12000) == 0.005 and ratio_at(paper, 500) == pytest.approx(0.1 * 0.6**0.5)


def test_empty_space_is_selected_only_as_published():
    response = torch.tensor([-1.0, 0.0, 1.0])
    assert selected(response, PRESETS["ours"]).tolist() == [False, False, True]
    assert selected(response, PRESETS["code"]).tolist() == [False, True, True]


def test_pseudo_masks_against_the_soft_formula():
    g = torch.Generator().manual_seed(3)
    masks = torch.rand(5, 6, 7, generator=g) > 0.5
    confidence = torch.rand(5, generator=g)
    soft = masks.float() * confidence[:, None, None]
    score = [
        sum(float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum().clamp_min(1e-9)) for b in soft) for a in soft
    ]
    assert pick_pseudo_mask(masks, confidence) == int(np.argmax(score))
    alone = torch.zeros(3, 2, 2, dtype=torch.bool)
    alone[0, 0], alone[1, 0], alone[2, 1] = True, True, True
    assert pick_pseudo_mask(alone, torch.tensor([0.5, 0.5, 0.6])) in (0, 1)
    with pytest.raises(ValueError):
        pick_pseudo_mask(masks[:0], confidence[:0])


def test_best_node_against_sets():
    last, node = torch.tensor([3, 1, 3, 3, 4]), torch.tensor([1, 1, 2, 3, 3, 4, -1])
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        chosen = torch.rand(7, generator=g) > 0.5
        ious = []
        for n in range(5):
            inside = (node >= n) & (node <= last[n])
            ious.append(float((inside & chosen).sum() / (inside | chosen).sum().clamp_min(1)))
        found, iou = best_node(chosen, node, last)
        if bool(chosen.any()):
            assert iou == pytest.approx(max(ious)) and ious[found] == pytest.approx(max(ious))
    assert best_node(torch.zeros(7, dtype=torch.bool), node, last) == (-1, 0.0)


class Words:
    """Word vectors that are fixed for each word."""

    width = 12

    def one(self, word):
        return torch.randn(self.width, generator=torch.Generator().manual_seed(sum(map(ord, word))))

    def tokens(self, texts):
        return [torch.stack([self.one(w) for w in t.split()]) for t in texts]

    def padded(self, texts):
        rows = self.tokens(texts)
        length = max(map(len, rows)) + 2
        out = torch.zeros(len(rows), length, self.width)
        for k, row in enumerate(rows):
            out[k, 1 : len(row) + 1] = row
        return out, torch.ones(len(rows), length, dtype=torch.bool)


def two_walls():
    """Two opaque squares side by side in front of a camera: 2 x 36 Gaussians, one anchor each."""
    x, y = torch.meshgrid(torch.linspace(-0.9, -0.1, 6), torch.linspace(-0.5, 0.5, 6), indexing="ij")
    left = torch.stack((x.flatten(), y.flatten(), torch.full((36,), 2.0)), 1)
    means = torch.cat([left, left * torch.tensor([-1.0, 1, 1])])
    n = len(means)
    g = Gaussians(means, torch.tensor([1.0, 0, 0, 0]).repeat(n, 1), torch.full((n, 3), 0.09), torch.full((n,), 0.98),
                  torch.zeros(n, 1, 3))  # fmt: skip
    view = View(torch.eye(4), torch.tensor([[16.0, 0, 16], [0, 16, 12], [0, 0, 1]]), 32, 24)
    masks = torch.zeros(2, 24, 32, dtype=torch.bool)
    masks[0, 8:16, 9:15], masks[1, 8:16, 17:23] = True, True
    return g, view, masks


@pytest.mark.parametrize("preset", ["ours", "code", "paper"])
def test_training_tells_two_things_apart(preset):
    g, view, masks = two_walls()
    words = Words()
    samples = [Sample(view, "a", text, thing, masks[thing]) for thing, text in
               ((0, "the red wall"), (0, "a red one"), (1, "the blue wall"), (1, "a blue one"))]  # fmt: skip
    torch.manual_seed(0)
    config = replace(PRESETS[preset], steps=150, rate=2e-3, feature_rate=2e-2)
    field = ReferField(g.means, words.width, config)
    owner = torch.arange(len(g))
    losses = train_field(field, samples, words, g, owner, CpuRasterizer(), seed=1)
    assert len(losses) == 150 and np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    with torch.no_grad():
        for thing, text in ((0, "the red wall"), (1, "the blue wall")):
            chosen = selected(field(words.tokens([text])[0])[0], config)
            own = torch.arange(72) // 36 == thing
            assert int((chosen & own).sum()) > 3 * int((chosen & ~own).sum())


def test_empty_pixels_have_a_logit_of_zero():
    g, view, _ = two_walls()
    logit = draw_response(torch.full((72,), -3.0), g, torch.arange(72), view, CpuRasterizer())
    assert float(logit[0, 0]) == 0 and float(logit[12, 11]) < -2


def test_nothing_to_train_on(xyz):
    g, _, _ = two_walls()
    with pytest.raises(UserError, match="nothing to train on"):
        train_field(ReferField(xyz, 12), [], Words(), g, torch.arange(72), CpuRasterizer())


def test_a_field_survives_its_file(xyz, tmp_path):
    field = field_of(xyz, contrast_weight=0.3)
    save_field(tmp_path / "refer.safetensors", field, "minilm", {"steps": 3})
    read, model = load_field(tmp_path / "refer.safetensors")
    text = torch.randn(4, 12)
    assert model == "minilm" and read.config == field.config
    assert torch.equal(read(text)[0], field.eval()(text)[0])
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a referring field"):
        load_field(tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match="refer-train"):
        load_field(tmp_path / "none.safetensors")
