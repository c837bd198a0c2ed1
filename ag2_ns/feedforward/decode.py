"""Image-text vectors to words: a few words whose mixture comes nearest, or a caption by a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor, nn

from ag2_ns.core.errors import UserError, first_line

LEAST_SHARE = 0.22
"""A word is in a vector where its share is at least this much of the largest one's. (Chosen on streets 60 to 71.)"""

PREFIX, GPT_WIDTH = 10, 768
"""ClipCap: embeddings that stand before the caption, and their width (GPT-2)."""


def words_in(
    vectors: Float[Tensor, "J D"],
    words: Sequence[str],
    texts: Float[Tensor, "T D"],
    *,
    most: int = 10,
    shortlist: int = 60,
    least: float = LEAST_SHARE,
) -> list[list[tuple[str, float]]]:
    """The words that a vector is a mixture of, and their shares, largest first; none for a zero vector.

    Non-negative least squares over the nearest words: a picture of a car on a road lies between both, nearer to either
    than to anything else. (Sparse decomposition of CLIP vectors: SpLiCE, Bhalla et al. 2024.)

    Args:
        vectors: of regions.
        words: the list.
        texts: the words' vectors, unit length.
        most: words per vector.
        shortlist: words that are tried.
        least: see `LEAST_SHARE`.
    """
    unit = torch.nn.functional.normalize(vectors.detach().float().cpu(), dim=1).double()
    table = torch.nn.functional.normalize(texts.detach().float().cpu(), dim=1).double()
    out: list[list[tuple[str, float]]] = []
    for row in unit:
        if not bool(torch.isfinite(row).all()) or not bool((row != 0).any()):
            out.append([])
            continue
        near = torch.topk(table @ row, min(shortlist, len(words))).indices
        share = nnls(table[near].T.numpy(), row.numpy())[0]
        order = np.argsort(-share)[:most]
        out.append(
            [(words[near[k]], float(share[k])) for k in order if share[k] > 0 and share[k] >= least * share.max()]
        )
    return out


class ClipCap(nn.Module):
    """ClipCap (Mokady et al. 2021): a vector becomes ten embeddings before a caption that GPT-2 writes.

    Args:
        gpt: a causal language model of transformers.
        in_dim: length of the vectors.
        width: of the language model's embeddings.
        prefix: embeddings.
    """

    def __init__(self, gpt: nn.Module, in_dim: int = 512, width: int = GPT_WIDTH, prefix: int = PREFIX) -> None:
        super().__init__()
        self.gpt, self.prefix = gpt, prefix
        middle = width * prefix // 2
        self.clip_project = nn.Sequential(nn.Linear(in_dim, middle), nn.Tanh(), nn.Linear(middle, width * prefix))

    @staticmethod
    def load(weights: Path, gpt_folder: Path, in_dim: int = 512) -> tuple[ClipCap, object]:
        """The model from ClipCap's weights and a GPT-2 folder (config and tokenizer); returns it and the tokenizer.

        Raises:
            UserError: either cannot be read; nothing in the weights is executed.
        """
        try:
            from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

            config = AutoConfig.from_pretrained(gpt_folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(gpt_folder, local_files_only=True)
            state = torch.load(weights, map_location="cpu", weights_only=True)
        except ImportError:
            raise UserError("ClipCap needs transformers; run `pip install 'ag2-ns[captions]'`") from None
        except Exception as error:  # parsers of foreign files raise whatever they run into
            raise UserError(
                f"{weights}: not ClipCap's weights with a GPT-2 in {gpt_folder} ({first_line(error)})"
            ) from None
        model = ClipCap(AutoModelForCausalLM.from_config(config), in_dim, config.n_embd)
        own = {name.replace("clip_project.model.", "clip_project."): t for name, t in state.items()}
        missing, _ = model.load_state_dict(own, strict=False)
        left = [
            name for name in missing if "attn.bias" not in name and "masked_bias" not in name and "lm_head" not in name
        ]
        if left:
            raise UserError(f"{weights}: lacks {left[0]}; give weights of ClipCap's MLP variant for COCO")
        return model.eval(), tokenizer

    @torch.no_grad()
    def token_ids(self, vector: Float[Tensor, " D"], stop: int, most: int = 67) -> list[int]:
        """The caption's tokens, chosen greedily (the published "top-p" takes the largest, too), up to `stop`."""
        width = self.gpt.get_input_embeddings().weight.shape[1]
        inputs = self.clip_project(vector[None]).reshape(1, self.prefix, width)
        found: list[int] = []
        for _ in range(most):
            token = int(self.gpt(inputs_embeds=inputs).logits[0, -1].argmax())
            found.append(token)
            if token == stop:
                break
            step = self.gpt.get_input_embeddings()(torch.tensor([[token]], device=vector.device))
            inputs = torch.cat([inputs, step], 1)
        return found

    def caption(self, vector: Float[Tensor, " D"], tokenizer) -> str:
        """One sentence."""
        return tokenizer.decode(self.token_ids(vector, tokenizer.encode(".")[0])).strip()
