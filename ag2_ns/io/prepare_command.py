"""The `ag2 prepare` line that completes or renews what a scene has: with the options it was made with."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

LANGUAGE_FEATURES = "language_features"
MASKS, FEATURES, TEXTS = "masks_sparse", "clip_features", "text_features.json"
"""Where masks, their features and the vectors of texts are looked for in a scene's folder."""


def auto_segmenter(folder: Path, masks_dir: Path | str | None, sam_checkpoint: Path | str | None) -> str:
    """The segmenter that `ag2 prepare` takes for these options, unless --segmenter names one."""
    if masks_dir is not None or (folder / MASKS).is_dir():
        return "files"
    return "sam" if sam_checkpoint is not None else "superpixel"


def auto_encoder(folder: Path, segmenter: str, features_dir: Path | str | None, clip: bool) -> str:
    """The encoder that `ag2 prepare` takes, unless --encoder names one; `clip`: an open_clip model is given."""
    if segmenter == "files" and (features_dir is not None or (folder / FEATURES).is_dir()):
        return "table"
    return "openclip" if clip else "palette"


def prepare_command(data: Path | str, folder: Path, stores: Path, downscale: float = 1, encode: bool = False) -> str:
    """The command, to paste into a shell.

    Args:
        data: the scene as the user names it.
        folder: its folder.
        stores: folder of the mask and the feature store, whose manifests say what made them.
        downscale: the downscale factor of the images.
        encode: features are wanted, even if masks were made without any.
    """
    masks, features = _made(stores / "masks"), _made(stores / "features")
    words = ["ag2", "prepare", str(data)]
    if downscale != 1:
        words += ["--downscale-factor", f"{downscale:g}"]
    given = _options(folder, masks)
    segmenter = auto_segmenter(folder, given.get("--masks-dir"), given.get("--sam-checkpoint"))
    if masks is not None and masks[0] != segmenter:
        segmenter = masks[0]
        words += ["--segmenter", segmenter]
    words += _words(given)
    given = _options(folder, features)
    encoder = auto_encoder(folder, segmenter, given.get("--clip-features-dir"), "--clip-model" in given)
    wanted = features[0] if features is not None else "none" if masks is not None and not encode else encoder
    # Left to itself, `ag2 prepare` takes better than the palette where the extra `words` is installed.
    named = wanted != encoder or (features is not None and wanted == "palette")
    return shlex.join(words + (["--encoder", wanted] if named else []) + _words(given))


def _made(store: Path) -> tuple[str, dict] | None:
    """What made a store, and the options that build it again; None where that cannot be told."""
    try:
        content = json.loads((store / "manifest.json").read_text())
        return str(content["maker"]), dict(content.get("options", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _options(folder: Path, made: tuple[str, dict] | None) -> dict[str, list[str]]:
    """The options of `ag2 prepare` that give a segmenter or encoder its own, less what it takes by itself."""
    maker, own = made or ("", {})
    of = {
        "files": {
            "--masks-dir": _elsewhere(own.get("folder"), folder, MASKS),
            "--resize-masks": bool(own.get("resize")),
            "--allow-missing-masks": bool(own.get("allow_missing")),
            "--masks-on": _but(own.get("made_on"), "auto"),
        },
        "sam": {"--sam-checkpoint": own.get("checkpoint"), "--preset": _but(own.get("preset"), "default")},
        "sam2": {"--checkpoint": own.get("checkpoint"), "--preset": _but(own.get("preset"), "default")},
        "sam3": {
            "--checkpoint": own.get("checkpoint"),
            "--preset": _but(own.get("preset"), "default"),
            "--words": list(own.get("words") or []) or None,
        },
        "langsplat": {
            "--masks-dir": _elsewhere(own.get("folder"), folder, LANGUAGE_FEATURES),
            "--masks-level": _but(own.get("level"), "all"),
            "--resize-masks": bool(own.get("resize")),
            "--clip-checkpoint": (own.get("options") or {}).get("checkpoint") if own.get("by") == "openclip" else None,
        },
        "siglip": {"--siglip-checkpoint": own.get("checkpoint"), "--prompts": _but(own.get("prompts"), "photo")},
        "superpixel": {"--preset": _but(own.get("preset"), "default"), "--cues": _but(own.get("cues"), "colours")},
        "openclip": {
            "--clip-model": own.get("model"),
            "--clip-checkpoint": own.get("checkpoint"),
            "--prompts": _but(own.get("prompts"), "photo"),
        },
        "table": {
            "--clip-features-dir": _elsewhere(own.get("features"), folder, FEATURES),
            "--text-features": _elsewhere(own.get("texts"), folder, TEXTS),
        },
    }
    given = {name: value for name, value in of.get(maker, {}).items() if value not in (None, False)}
    return {name: _as_words(value) for name, value in given.items()}


def _as_words(value: object) -> list[str]:
    """What follows an option's name."""
    return [] if value is True else [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _but(value: object, default: str) -> object:
    return None if value == default else value


def _elsewhere(value: object, folder: Path, default: str) -> object:
    """A path, unless it is where `ag2 prepare` looks by itself, or was before the scene moved."""
    here = folder / default
    if not isinstance(value, str) or os.path.abspath(here) == os.path.abspath(value):
        return None
    return None if Path(value).name == default and here.exists() and not os.path.exists(value) else value


def _words(options: dict[str, list[str]]) -> list[str]:
    return [word for name, values in options.items() for word in (name, *values)]
