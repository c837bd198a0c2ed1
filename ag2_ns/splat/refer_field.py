"""ReferSplat's referring field on anchors: learned features that answer sentences (Zheng et al., ICML 2025).

Per anchor a feature f of 16 numbers; one hidden layer stack makes g (128), another one positions p. A sentence's word
vectors become W (L x 128). Word positions are averages of p over the anchors that answer each word, so that attention
over words sees where things are:

    p_w = softmax over anchors(W g') p        Q = Wq g + Wgp p        K = Wk W + Wkp p_w        V = Wv W
    g+ = LayerNorm(g + softmax over words(Q K' / sqrt(128)) V)        response m = sum over words of g+ . W

Responses are composited like colours; the logit of a pixel is compared with a mask. The published field lives on every
Gaussian; here on anchors, so that it trains on a CPU. Published presets keep the paper's or the code's constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

HIDDEN = 128
"""Width D of the joint space."""


@dataclass(frozen=True)
class ReferFieldConfig:
    """Constants of the field and of its training. Defaults: the published code's, its bugs mended."""

    feature: int = 16
    """Numbers per anchor; 16 beat 1, 4 and 32 (paper, table 5)."""
    projections: bool = True
    """Linear maps and LayerNorm around the attention (code); without, g and W themselves (paper)."""
    scale_words: bool = False
    """Divide by sqrt(128) also where word positions are averaged (paper)."""
    use_positions: bool = True
    """Position-aware attention; without it the paper's table 4 falls below the bare field."""
    normalise_xyz: bool = True
    """Positions in units of the scene's extent; the code passes raw coordinates, and has an unused normaliser."""
    contrast_weight: float = 0.1
    """Weight of the Gaussian-text contrast: code 0.1, paper 0.02."""
    mean_positives: bool = False
    """Average the contrast over positives (paper) rather than the code's log of a sum of pairs."""
    temperature: float = 0.1
    """Of the contrast."""
    ratio: float = 0.1
    """Share of the anchors, those with the largest responses, whose mean stands for the referent."""
    ratio_factor: float = 0.6
    ratio_every: int = 2000
    """The ratio is multiplied by `ratio_factor` every so many steps (paper 1000, continuously)."""
    ratio_floor: float = 0.005
    pad_in_mean: bool = False
    """The code's bug: a sentence's mean runs over its last token and all padding of the view's batch."""
    select_empty: bool = False
    """The code's bug: a pixel where nothing is drawn has a logit of 0, a probability of 0.5, and is selected."""
    feature_rate: float = 2.5e-3
    rate: float = 1e-4
    """Adam learning rates of features and networks."""
    passes: int = 5
    """Times that every (view, sentence) pair is seen."""
    steps: int = 0
    """Steps instead of passes, if positive; the paper trains 45,000."""


PRESETS: dict[str, ReferFieldConfig] = {
    "ours": ReferFieldConfig(),
    "code": ReferFieldConfig(normalise_xyz=False, pad_in_mean=True, select_empty=True),
    "paper": ReferFieldConfig(
        projections=False,
        scale_words=True,
        normalise_xyz=False,
        contrast_weight=0.02,
        mean_positives=True,
        ratio_every=1000,
        ratio_floor=0.0,
        steps=45000,
    ),
}
"""Named constants: the published code's, mended; the code's as it is; the paper's."""


class ReferField(nn.Module):
    """The field over A anchors.

    Args:
        xyz: the anchors' centres.
        words: width of the word vectors: 1024 for BERT-large, 384 for MiniLM.
        config: constants.
    """

    def __init__(self, xyz: Float[Tensor, "A 3"], words: int, config: ReferFieldConfig | None = None) -> None:
        super().__init__()
        self.config = config or ReferFieldConfig()
        d = HIDDEN
        if self.config.normalise_xyz and len(xyz):
            middle = xyz.median(0).values
            reach = (xyz - middle).norm(dim=1).quantile(0.9) if len(xyz) > 1 else xyz.new_ones(())
            xyz = (xyz - middle) / reach.clamp_min(1e-6)
        self.register_buffer("xyz", xyz.detach().clone())
        self.feature = nn.Parameter(torch.zeros(len(xyz), self.config.feature))
        self.up = _stack(self.config.feature, 32, 64, d)
        self.place = _stack(3, 16, 64, d)
        self.text = _stack(words, 512, 256, d)
        if self.config.projections:
            self.query, self.key, self.value = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
            self.query_place, self.key_place = nn.Linear(d, d), nn.Linear(d, d)
            self.norm = nn.LayerNorm(d)

    def forward(self, words: Float[Tensor, "L T"]) -> tuple[Float[Tensor, " A"], Float[Tensor, "A 128"]]:
        """Responses of the anchors to a sentence, and their features after attention to its words."""
        g = self.up(self.feature)
        w = self.text(words)
        attended = self._attend(g, w)
        return (attended @ w.T).sum(1), attended

    def _attend(self, g: Float[Tensor, "A D"], w: Float[Tensor, "L D"]) -> Float[Tensor, "A D"]:
        c, scale = self.config, math.sqrt(HIDDEN)
        p = normalize(self.place(self.xyz), dim=1)
        by_word = torch.softmax(w @ g.T / (scale if c.scale_words else 1.0), dim=1)
        p_w = by_word @ p
        if not c.projections:
            q, k, v = (g + p, w + p_w, w) if c.use_positions else (g, w, w)
            return g + torch.softmax(q @ k.T / scale, dim=1) @ v
        q, k = self.query(g), self.key(w)
        if c.use_positions:
            q, k = q + self.query_place(p), k + self.key_place(p_w)
        return self.norm(g + torch.softmax(q @ k.T / scale, dim=1) @ self.value(w))

    def sentence(self, words: Float[Tensor, "L T"]) -> Float[Tensor, "128"]:
        """What stands for a whole sentence in the contrast: the mean of its words."""
        return self.text(words).mean(0)

    def parameter_groups(self) -> list[dict]:
        """Features and networks with their learning rates, for Adam (eps 1e-15)."""
        others = [p for name, p in self.named_parameters() if name != "feature"]
        return [
            {"params": [self.feature], "lr": self.config.feature_rate},
            {"params": others, "lr": self.config.rate},
        ]


def _stack(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def ratio_at(config: ReferFieldConfig, step: int) -> float:
    """Share of the anchors that stand for the referent at a step."""
    exponent = step / config.ratio_every if config.mean_positives else step // config.ratio_every
    return max(config.ratio * config.ratio_factor**exponent, config.ratio_floor, 1e-6)


def mask_loss(logit: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, ""]:
    """Binary cross entropy of composited responses with a mask, mean over pixels."""
    return binary_cross_entropy_with_logits(logit, mask.to(logit))


def contrast_loss(
    attended: Float[Tensor, "A D"],
    response: Float[Tensor, " A"],
    sentences: Float[Tensor, "S D"],
    positive: Bool[Tensor, " S"],
    ratio: float,
    config: ReferFieldConfig,
) -> Float[Tensor, ""]:
    """Gaussian-text contrast: the mean feature of what answers most against all sentences of the view.

    Args:
        attended: features after attention.
        response: to the sentence at hand.
        sentences: of the view, `ReferField.sentence` each.
        positive: those about the same thing.
        ratio: share of the anchors taken.
        config: temperature and form.

    Returns:
        The code's ln(1 + sum over positive p, negative n of exp(s_n - s_p)), or InfoNCE averaged over positives; 0
        where there is no negative.
    """
    if bool(positive.all()) or not bool(positive.any()):
        return response.sum() * 0
    count = max(1, round(ratio * len(response)))
    top = response.topk(count).indices
    z = normalize(attended[top].mean(0), dim=0)
    score = normalize(sentences, dim=1) @ z / config.temperature
    if config.mean_positives:
        return (torch.logsumexp(score, 0) - score[positive]).mean()
    pairs = score[~positive][None] - score[positive][:, None]
    return torch.logsumexp(torch.cat((pairs.reshape(-1), pairs.new_zeros(1))), 0)


def selected(response: Float[Tensor, " A"], config: ReferFieldConfig) -> Bool[Tensor, " A"]:
    """The anchors that a sentence selects: sigmoid(response) >= 0.5, or above it where empty space is no answer."""
    return response >= 0 if config.select_empty else response > 0


def pick_pseudo_mask(
    masks: Float[Tensor, "K H W"] | Bool[Tensor, "K H W"], confidence: Float[Tensor, " K"], weighted: bool = True
) -> int:
    """The candidate that the others, weighted by their confidence, agree with most (paper, section 3.3).

    p_k = sum over j of |c_k M_k and c_j M_j| / |c_k M_k or c_j M_j|, soft: least and largest value per pixel.

    Args:
        masks: K candidates of one image and sentence, by a detector with a segmenter.
        confidence: of each, 0 to 1.
        weighted: False ignores the confidences.

    Raises:
        ValueError: no candidates.
    """
    if len(masks) == 0:
        raise ValueError("no candidate masks to choose from")
    c = confidence.float() if weighted else torch.ones_like(confidence, dtype=torch.float)
    area = masks.reshape(len(masks), -1).float()
    both = area @ area.T
    own = area.sum(1)
    low, high = torch.minimum(c[:, None], c[None]), torch.maximum(c[:, None], c[None])
    # Where both masks are, the larger confidence is the union's; elsewhere each mask's own.
    union = high * both + c[:, None] * (own[:, None] - both) + c[None] * (own[None] - both)
    agreement = low * both / union.clamp_min(1e-9)
    return int(agreement.sum(1).argmax())


def best_node(chosen: Bool[Tensor, " A"], anchor_node: Int[Tensor, " A"], last: Int[Tensor, " R"]) -> tuple[int, float]:
    """The node of an instance tree with the largest IoU with some anchors, and that IoU; (-1, 0) for none."""
    nodes, inside = len(last), anchor_node >= 0
    if nodes == 0 or not bool(chosen.any()):
        return -1, 0.0
    size = torch.bincount(anchor_node[inside], minlength=nodes).double()
    hit = torch.bincount(anchor_node[inside & chosen], minlength=nodes).double()
    total, hits = (torch.nn.functional.pad(torch.cumsum(v, 0), (1, 0)) for v in (size, hit))
    start = torch.arange(nodes, device=last.device)
    size, hit = total[last + 1] - total[start], hits[last + 1] - hits[start]
    iou = hit / (size + chosen.sum() - hit).clamp_min(1)
    node = int(iou.argmax())
    return node, float(iou[node])
