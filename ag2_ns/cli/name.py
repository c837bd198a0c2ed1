"""`ag2 name`: what the things of a scene are called, found without being asked."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ag2_ns.cli.picking import Opened
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ag2_ns.language.vocabulary import Vocabulary
    from ag2_ns.perception.tagger import Tagger, Tags
    from ag2_ns.scene.naming import Embed
    from ag2_ns.session.opened import OpenScene


@dataclass
class Name(Opened):
    """Name the instances of a scene, and keep the names in it: for the viewer, `--text` and exports.

    Words come from captions (--captions, --captioner) or, without any, from a list of nouns that the scene's encoder is
    asked about. The table, names.json and names.png say what is called what, and why.
    """

    output_dir: Path | None = None
    """Where names.json and names.png go; default: names/ beside the scene."""
    _: KW_ONLY
    captions: tuple[Path, ...] = ()
    """JSON files of captions or weighted tags by view, from any captioner; several are joined, each counting alike:
    those of the pictures, say, and those of the points (`ag2 smap name`)."""
    captioner: Path | None = None
    """Folder of a captioning model of transformers (BLIP, …) that writes captions now."""
    tagger: Literal["auto", "files", "captioner", "retrieval", "simulated"] = "auto"
    """Where words come from; auto: from --captions or --captioner where given, else by retrieval."""
    words: Path | None = None
    """File of words, one a line, that may name things, instead of the built-in nouns (retrieval) or beside captions."""
    nouns: Literal["rules", "spacy"] = "rules"
    """How captions are read."""
    colours: bool = False
    """Keep colours in front of nouns ("red mug"), which tells things of a kind apart."""
    text_vectors: Path | None = None
    """JSON of text to vector, for words that the scene's own table of texts does not hold."""
    noise: float = 1.0
    """Level of the errors of --tagger simulated."""
    sheet_views: int = 6
    """Pictures on names.png; 0 for none."""
    keep: bool = True
    """Store the names in the scene."""

    def main(self) -> None:
        """Name, store and report."""
        from ag2_ns.core.console import console
        from ag2_ns.core.notice import view_progress
        from ag2_ns.io.atomic import require_writable, write_atomic
        from ag2_ns.scene.naming import named, vocabulary_of
        from ag2_ns.scene.scene_file import save_scene

        if self.sheet_views < 0:
            raise UserError(f"--sheet-views {self.sheet_views}: give a number from 0")
        scene = self.open(edits=False)
        folder = self.output_dir or scene.folder / "names"
        require_writable(folder)
        tagger, embed = self._tagger(scene)
        further = self._words() if self.words is not None and tagger.name != "retrieval" else ()
        total = len(scene.of_split("train") or scene.views)
        with view_progress(total, "tagging") as progress:
            found, tags = vocabulary_of(scene, tagger, words=further, embed=embed, progress=progress)
        views = scene.of_split("train") or list(scene.views)
        content = report(found, scene, tagger, {v.name: t for v, t in zip(views, tags)})
        write_atomic(folder / "names.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        scene = named(scene, found)
        if self.sheet_views and found.words:
            from ag2_ns.rendering.sheet import contact_sheet

            rows = name_pictures(scene, self.sheet_views)
            contact_sheet(folder / "names.png", [[p] for _, p in rows], ["names"], [n for n, _ in rows], longest=960)
        if self.keep:
            save_scene(scene.path, scene)
        self._print(found, scene, folder, console())

    def _tagger(self, scene: OpenScene) -> tuple[Tagger, Embed | None]:
        """The tagger, and what embeds its words where the scene's own encoder does not.

        Raises:
            UserError: options that contradict each other.
        """
        from ag2_ns.perception.caption_tags import noun_tags, spacy_tags
        from ag2_ns.perception.tagger import make_tagger

        if self.captions and self.captioner is not None:
            raise UserError("give either --captions FILE or --captioner MODEL")
        kind = self.tagger
        if kind == "auto":
            kind = "files" if self.captions else "captioner" if self.captioner else "retrieval"
        embed = None if self.text_vectors is None else _table(self.text_vectors)
        if kind == "files":
            if not self.captions:
                raise UserError("--tagger files: name the captions with --captions FILE")
            rules = lambda caption: noun_tags(caption, colours=self.colours)  # noqa: E731
            return make_tagger(
                "files", paths=self.captions, nouns=spacy_tags() if self.nouns == "spacy" else rules
            ), embed
        if kind == "captioner":
            if self.captioner is None:
                raise UserError("--tagger captioner: name the model's folder with --captioner MODEL")
            return make_tagger("captioner", model=self.captioner, device=scene.device.type), embed
        if kind == "simulated":
            if scene.source is None:
                raise UserError("--tagger simulated: is for example scenes; use --captions FILE")
            options = {"noise": self.noise, "colours": self.colours}
            data = scene.source.data
            tagger = make_tagger("simulated", ground_truth=data.parent if data.suffix else data, **options)
            return tagger, embed or _simulated(tagger.vectors)
        if scene.texts is None:
            raise UserError("retrieval needs the encoder of the scene's language; use --captions FILE")
        words = None if self.words is None else self._words()
        return make_tagger("retrieval", encoder=scene.texts.encoder(), words=words), embed

    def _words(self) -> list[str]:
        try:
            lines = self.words.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{self.words}: no readable file of words; give one word a line") from None
        words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not words:
            raise UserError(f"{self.words}: holds no word; give one a line")
        return words

    def _print(self, found: Vocabulary, scene: OpenScene, folder: Path, out) -> None:
        from rich.table import Table

        from ag2_ns.core.console import command_line

        table = Table(title="names")
        for name in ("word", "things", "score", "views", "runner-up", "also"):
            table.add_column(name, justify="right" if name in ("things", "score", "views") else "left")
        for word in found.words:
            own = [n for n in found.names if n.word == word]
            best = max(own, key=lambda n: n.score)
            second = f"{best.runner_up} {best.runner_up_score:.2f}" if best.runner_up else ""
            also = ", ".join(found.synonyms.get(word, ()))
            table.add_row(word, str(len(own)), f"{best.score:.2f}", f"{best.views} of {best.seen}", second, also)
        objects = scene.index.tree.instances(0.5).tolist()
        calls = sum(found.name_of(n) is not None for n in objects)
        if found.words:
            out.print(table)
        out.print(
            f"{len(found.words)} words name {calls} of {len(objects)} objects; {len(found.dropped)} words dropped"
        )
        if not found.words:
            out.print("no word names anything here: give captions (--captions) or other words (--words)")
        out.print(f"names      {folder / 'names.json'}")
        if self.sheet_views and found.words:
            out.print(f"picture    {folder / 'names.png'}")
        if found.words:
            asked = command_line(
                "ag2", "query", "--load-config", scene.path, "--text", found.words[0], "--output-dir", "query"
            )
            out.print(f"ask        {asked}")


def report(found: Vocabulary, scene: OpenScene, tagger: Tagger, tags: dict[str, Tags]) -> dict:
    """What names.json holds."""
    from dataclasses import asdict

    return {
        "tagger": {"name": tagger.name, **tagger.settings},
        "words": list(found.words),
        "names": [asdict(n) for n in found.names],
        "nodes": {str(n): found.name_of(n) for n in range(len(found.node_word))},
        "synonyms": {k: list(v) for k, v in found.synonyms.items()},
        "dropped": dict(found.dropped),
        "tags": {view: [[w, round(float(x), 4)] for w, x in said] for view, said in tags.items()},
    }


def name_pictures(scene: OpenScene, count: int) -> list[tuple[str, object]]:
    """Views with the names of what they show drawn in: (view, picture)."""
    from ag2_ns.cli.query import spread
    from ag2_ns.rendering import render
    from ag2_ns.rendering.labels import draw_names
    from ag2_ns.rendering.overlay import to_uint8

    out = []
    objects = [n for n in scene.index.tree.instances(0.5).tolist() if scene.vocabulary.name_of(n) is not None]
    node = scene.index.gaussian_node(0.5)
    names = [scene.vocabulary.name_of(n) for n in objects]
    for view in spread(scene.of_split("train") or list(scene.views), count):
        picture = to_uint8(render(scene.gaussians, view.view, scene.rasterizer, depth=False).rgb)
        out.append((view.name, draw_names(picture, scene.gaussians, node, objects, names, view.view, scene.rasterizer)))
    return out


def _table(path: Path) -> Embed:
    from ag2_ns.perception.table import TableEncoder
    from ag2_ns.perception.tagger import embed_words

    encoder = TableEncoder(texts=path)
    return lambda words: embed_words(encoder, words)


def _simulated(vectors: Callable[[list[str]], np.ndarray]) -> Embed:
    import torch

    return lambda words: (words, torch.from_numpy(vectors(words)))
