"""Weights that can be named: who publishes them, what uses them, and where they are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ag2_ns.core.errors import UserError
from ag2_ns.perception.download import NotThere, Progress, Refused, RemoteFile, fetch_file
from ag2_ns.perception.text_cache import cache_folder


@dataclass(frozen=True)
class Weights:
    """Weights that can be named."""

    name: str
    about: str
    """What they are, how large, under which licence."""
    options: tuple[str, ...]
    """The options of `ag2 prepare` that use them."""
    files: tuple[RemoteFile, ...]
    gate: str = ""
    """The page where their licence must be accepted first, if any."""
    tag: tuple[str, str] | None = field(default=None)
    """Model and pretrained tag, as open_clip calls them."""


def _hub(repository: str, *names: str, optional: tuple[str, ...] = ()) -> tuple[RemoteFile, ...]:
    """Files of a repository of the model hub; `hub:` stands for its address."""
    required = tuple(RemoteFile(n, f"hub:{repository}/{n}") for n in names)
    return required + tuple(RemoteFile(n, f"hub:{repository}/{n}", optional=True) for n in optional)


def _sam(kind: str, digest: str, about: str, sha256: str, size: int | None = None) -> Weights:
    name = f"sam_{kind}_{digest}.pth"
    file = RemoteFile(name, f"https://dl.fbaipublicfiles.com/segment_anything/{name}", size, sha256)
    return Weights(f"sam-{kind}", about, ("--sam-checkpoint", f"sam-{kind}"), (file,))


def _sam2(size: str, about: str) -> Weights:
    name = f"sam2.1-{size}"
    files = _hub(
        f"facebook/sam2.1-hiera-{size}",
        "config.json",
        "model.safetensors",
        optional=("preprocessor_config.json", "processor_config.json"),
    )
    return Weights(name, about, ("--segmenter", "sam2", "--checkpoint", name), files)


def _siglip(name: str, repository: str, about: str) -> Weights:
    files = _hub(
        repository,
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer_config.json",
        optional=("tokenizer.json", "special_tokens_map.json", "spiece.model", "tokenizer.model"),
    )
    return Weights(name, about, ("--encoder", "siglip", "--siglip-checkpoint", name), files)


def _clip(name: str, model: str, tag: str, file: RemoteFile, about: str) -> Weights:
    return Weights(name, about, ("--clip-model", model, "--clip-checkpoint", tag), (file,), tag=(model, tag))


_OPENAI = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"

CATALOGUE: dict[str, Weights] = {
    w.name: w
    for w in (
        _sam(
            "vit_h",
            "4b8939",
            "segment-anything ViT-H, 2.6 GB, Apache-2.0",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_564_550_879,
        ),
        _sam(
            "vit_l",
            "0b3195",
            "segment-anything ViT-L, 1.2 GB, Apache-2.0",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _sam(
            "vit_b",
            "01ec64",
            "segment-anything ViT-B, 375 MB, Apache-2.0",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
        ),
        _sam2("tiny", "SAM 2.1 tiny, 0.2 GB, Apache-2.0"),
        _sam2("small", "SAM 2.1 small, 0.2 GB, Apache-2.0"),
        _sam2("base-plus", "SAM 2.1 base plus, 0.3 GB, Apache-2.0"),
        _sam2("large", "SAM 2.1 large, 0.9 GB, Apache-2.0"),
        Weights(
            "sam3",
            "SAM 3, 3.4 GB, SAM licence (accept it on its page first, then set HF_TOKEN)",
            ("--segmenter", "sam3", "--checkpoint", "sam3"),
            _hub(
                "facebook/sam3",
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                optional=("processor_config.json", "preprocessor_config.json", "special_tokens_map.json"),
            ),
            gate="facebook/sam3",
        ),
        _siglip("siglip-base", "google/siglip-base-patch16-224", "SigLIP ViT-B/16, 0.8 GB, Apache-2.0"),
        _siglip("siglip-so400m", "google/siglip-so400m-patch14-384", "SigLIP SO400M/14 at 384, 3.5 GB, Apache-2.0"),
        _siglip("siglip2-base", "google/siglip2-base-patch16-224", "SigLIP 2 ViT-B/16, 1.5 GB, Apache-2.0"),
        _siglip("siglip2-so400m", "google/siglip2-so400m-patch14-384", "SigLIP 2 SO400M/14 at 384, 4.5 GB, Apache-2.0"),
        _clip(
            "openclip-b16",
            "ViT-B-16",
            "laion2b_s34b_b88k",
            *_hub("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors"),
            "OpenCLIP ViT-B/16 of LAION-2B (LERF's, LangSplat's and COS3D's), 0.6 GB, MIT",
        ),
        _clip(
            "openclip-l14",
            "ViT-L-14",
            "laion2b_s32b_b82k",
            *_hub("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "open_clip_model.safetensors"),
            "OpenCLIP ViT-L/14 of LAION-2B, 1.7 GB, MIT",
        ),
        _clip(
            "openclip-h14",
            "ViT-H-14",
            "laion2b_s32b_b79k",
            *_hub("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "open_clip_model.safetensors"),
            "OpenCLIP ViT-H/14 of LAION-2B, 3.9 GB, MIT",
        ),
        _clip(
            "clip-b16",
            "ViT-B-16",
            "openai",
            RemoteFile(
                "ViT-B-16.pt", f"https://openaipublic.azureedge.net/clip/models/{_OPENAI}/ViT-B-16.pt", None, _OPENAI
            ),
            "CLIP ViT-B/16 of OpenAI, 0.4 GB, MIT",
        ),
    )
}
"""By name."""


def weights_folder() -> Path:
    """Where weights are kept: `$AG2_WEIGHTS`, else `weights` in the cache folder."""
    given = os.environ.get("AG2_WEIGHTS")
    return Path(given).expanduser() if given else cache_folder() / "weights"


def lookup(name: str) -> Weights:
    """Weights by their name.

    Raises:
        UserError: no such weights; the message lists those there are.
    """
    if name not in CATALOGUE:
        raise UserError(f"--download {name}: not known; choose of: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def downloaded(name: str) -> Path | None:
    """The file or folder of weights that were fetched under a name; None where they were not."""
    weights = CATALOGUE.get(name)
    if weights is None:
        return None
    folder = weights_folder() / name
    if not all((folder / f.name).is_file() for f in weights.files if not f.optional):
        return None
    return folder / weights.files[0].name if len(weights.files) == 1 else folder


def downloaded_tag(model: str, tag: str) -> Path | None:
    """The weights of an open_clip model by its pretrained tag, where they were fetched."""
    return next((downloaded(w.name) for w in CATALOGUE.values() if w.tag == (model, tag)), None)


def fetch_command(name: str) -> str:
    """The line that fetches weights."""
    return f"ag2 prepare --download {name}"


def fetch_weights(weights: Weights, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Fetch all files of some weights; those that are there already are left alone.

    Args:
        weights: what.
        folder: where to; its place in `weights_folder()` by default.
        progress: told of every block.

    Returns:
        The folder, or the file where there is only one.

    Raises:
        UserError: see `fetch_file`; or their licence was not accepted yet.
    """
    folder = weights_folder() / weights.name if folder is None else folder
    for file in weights.files:
        if (folder / file.name).is_file():
            continue
        try:
            fetch_file(file, folder, progress)
        except NotThere:
            if not file.optional:
                raise UserError(f"{file.name} of {weights.name}: its publisher does not have it any more") from None
        except Refused as refused:
            if weights.gate:
                raise UserError(
                    f"{weights.name}: its publisher asks for a licence to be accepted on the page of {weights.gate}; "
                    "do so, then set HF_TOKEN to a token of yours"
                ) from None
            raise UserError(f"{file.name} of {weights.name}: {refused}; try again later") from None
    return folder / weights.files[0].name if len(weights.files) == 1 else folder
