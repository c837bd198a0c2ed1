"""Sentences by hand about two real captures, fox and bear: what the solver answers, with a sheet of pictures to judge.

There are no masks to compare with, so each line says what is wanted in words and the pictures are looked at.

    python examples/benchmarks/referring_captures.py --load-config RUN --name fox --output-dir OUT
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

import ag2_ns
from ag2_ns.core.errors import UserError
from ag2_ns.rendering.overlay import to_uint8
from ag2_ns.rendering.sheet import contact_sheet

SENTENCES = {
    "fox": (
        ("the fox", "", "the head on the wall"),
        ("the animal on the wooden shield", "", "the head"),
        ("the brown shield behind the fox", "0021.jpg", "the shield"),
        ("the picture frame above the fox", "", "the frame at the top"),
        ("the thing to the left of the fox", "0030.jpg", "the oval mirror"),
        ("the red curtain", "", "the curtain at the top right"),
        ("the orange animal", "", "the head"),
        ("the pink flower under the fox", "", "a pink rose of the wallpaper below"),
        ("the mirror next to the fox", "", "the oval mirror"),
        ("the blue car", "", "nothing"),
    ),
    "bear": (
        ("the bear", "", "the statue"),
        ("the grey statue on the slab", "", "the statue"),
        ("the thing that the bear stands on", "", "the slab"),
        ("the grey bear", "", "the statue"),
        ("the rock under the bear", "", "the boulder"),
        ("the tree behind the bear", "frame_00001.jpg", "the trunk behind it"),
        ("the green bush", "", "a bush"),
        ("the largest rock", "", "the boulder"),
        ("the tree to the right of the bear", "frame_00001.jpg", "the trunk at the right"),
        ("the red car", "", "nothing"),
    ),
}
"""Sentence, picture that it is seen from, what is wanted; written by looking at the pictures, before any answer."""


@dataclass
class Captures:
    """Ask and draw."""

    load_config: Path
    name: Literal["fox", "bear"]
    output_dir: Path

    def main(self) -> None:
        """Print the answers, write answers.json and sheet.png."""
        scene = ag2_ns.open(self.load_config).as_trained()
        views, rows, told, answers = [v.name for v in scene.views], [], [], []
        for text, seen_from, wanted in SENTENCES[self.name]:
            try:
                found = scene.select(sentence=text, seen_from=seen_from or None)
                chosen, reason = found.selection, found.reason
            except UserError as error:
                reason = str(error)
                chosen = scene.require_index().nothing(text, reason)
            share = float(chosen.gaussian_mask.float().mean())
            print(f"{text!r} (wanted: {wanted}): {share:.1%} of the Gaussians; {reason}", flush=True)
            answers.append({"sentence": text, "from": seen_from, "wanted": wanted, "reason": reason, "share": share})
            shown = [seen_from if seen_from in views else views[0], views[len(views) // 3], views[2 * len(views) // 3]]
            pictures = [to_uint8(scene.render(v, chosen)["selection_overlay"]) for v in shown]
            rows.append(pictures)
            told.append(f"{text}: {wanted}")
        self.output_dir.mkdir(parents=True, exist_ok=True)
        (self.output_dir / "answers.json").write_text(json.dumps(answers, indent=1))
        heads = ["seen from", "another view", "another view"]
        contact_sheet(self.output_dir / "sheet.png", rows, heads, told, longest=240)


if __name__ == "__main__":
    tyro.cli(Captures).main()
