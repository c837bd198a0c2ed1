"""Models of the transformers library from a folder or from the local cache: nothing is fetched, nothing is executed.

A folder holds config.json, model.safetensors (or its shards) and, for texts, the tokenizer's files, as their publishers
offer them and as `ag2 prepare --download` stores them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import torch

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.io.view_store import file_hash
from ag2_ns.perception.openclip import offline

INSTALL = "install it with: pip install 'ag2-ns[transformers]'"

VERSION = (5, 0)
"""Oldest transformers with SAM 2, SAM 3 and SigLIP as they are called here."""


def transformers() -> Any:
    """The library.

    Raises:
        UserError: it is not installed, or too old.
    """
    try:
        library = importlib.import_module("transformers")
    except ImportError:
        raise UserError(f"this needs the package transformers; {INSTALL}") from None
    if tuple(int(x) for x in library.__version__.split(".")[:2]) < VERSION:
        raise UserError(f"transformers {library.__version__} is too old for this; {INSTALL}")
    return library


def find_pretrained(checkpoint: Path | str | None, what: str, example: str) -> Path:
    """The folder of a model: as given, or in the local cache under its publisher's name.

    Args:
        checkpoint: a folder, a name such as facebook/sam2.1-hiera-large, or what `ag2 prepare --download` calls it;
            None stands for the example.
        what: for the message.
        example: a name that `ag2 prepare --download` knows.

    Raises:
        UserError: there is none.
    """
    from ag2_ns.perception.weights import CATALOGUE, downloaded, fetch_command

    fetch = f"fetch it with `{fetch_command(example)}`"
    name = example if checkpoint is None else str(checkpoint)
    folder = Path(name).expanduser()
    if folder.is_file() and folder.name == "model.safetensors":
        folder = folder.parent
    if checkpoint is not None and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: no config.json in it; give the folder of a {what} model, or {fetch}")
        return folder
    found = downloaded(name) or _cached(name)
    if found is not None:
        return found
    if name in CATALOGUE:
        raise UserError(f"{what} needs weights: {name} is not on this machine; fetch it with `{fetch_command(name)}`")
    raise UserError(f"{name}: no such folder, and not in the local cache; {fetch}")


def _cached(repository: str) -> Path | None:
    """Where an earlier download by the hub's own client left a repository."""
    if repository.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(repository, "config.json")
    except ValueError:  # no possible name of a repository
        return None
    return Path(found).parent if isinstance(found, str) else None


def load_pretrained(kind: str, folder: Path, device: torch.device, dtype: torch.dtype, types: tuple[str, ...]) -> Any:
    """A model in evaluation mode, without gradients.

    Args:
        kind: name of the model's class in transformers.
        folder: see `find_pretrained`.
        device: where it goes.
        dtype: its precision.
        types: the `model_type`s of config.json that fit.

    Raises:
        UserError: another kind of model, or files that are damaged or do not fit.
    """
    config = read_json(folder / "config.json")
    found = config.get("model_type")
    if found not in types:
        raise UserError(f"{folder}: is a {found or 'model of an unknown kind'}, not a {types[0]}; give another folder")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no .safetensors in it; other formats could execute code and are not read")
    library = transformers()
    try:
        with offline(), _silent(library):
            model, report = getattr(library, kind).from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
    except Exception as error:  # a damaged file raises whatever the parsers run into
        raise UserError(f"{folder}: cannot be loaded as {kind} ({first_line(error)[:160]}); fetch it again") from None
    if report["missing_keys"]:
        lost = sorted(report["missing_keys"])
        raise UserError(f"{folder}: {len(lost)} weights are missing ({lost[0]}, ...); fetch it again")
    return model.to(device).eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a model.

    Raises:
        UserError: its files are missing or damaged.
    """
    library = transformers()
    try:
        with offline(), _silent(library):
            return library.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers of other libraries fail in many ways
        raise UserError(
            f"{folder}: its tokenizer cannot be loaded ({first_line(error)[:120]}); fetch tokenizer.json and "
            "tokenizer_config.json with the weights"
        ) from None


def weights_print(folder: Path) -> str:
    """A fingerprint of all weights of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    return hashlib.blake2b("".join(file_hash(f) for f in files).encode(), digest_size=8).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        UserError: not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({first_line(error)}); fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; fetch it again")
    return content


def colours_of(folder: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the colours that a model expects, from its preprocessor's file."""
    content = read_json(folder / "preprocessor_config.json")
    content = content or read_json(folder / "processor_config.json").get("image_processor", {})
    return list(content.get("image_mean") or mean), list(content.get("image_std") or std)


class _silent:
    """Keeps the library's notes and bars from standard error for a while: what matters is raised."""

    def __init__(self, library: Any) -> None:
        self._logging = library.utils.logging

    def __enter__(self) -> None:
        self._level = self._logging.get_verbosity()
        self._bars = self._logging.is_progress_bar_enabled()
        self._logging.set_verbosity_error()
        self._logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        self._logging.set_verbosity(self._level)
        if self._bars:
            self._logging.enable_progress_bar()
