"""Ask in words, and film the answer: an orbit around what was found, marked, with a legend.

    python examples/5_text_video.py [--load-config …/config.yml] [--text "red mug" "green book"]

Shows the same as `ag2 render --load-config … --text "red mug" --output-path video.mp4`.

Writes OUT/text.mp4 (H.264).
"""

from __future__ import annotations

from pathlib import Path

import start
import tyro

from ag2_ns.cli.render import Render


def main(
    load_config: Path | None = None,
    data: Path | None = None,
    out: Path = Path("outputs/examples"),
    text: tuple[str, ...] = (),
    frames: int = 72,
) -> Path:
    scene = start.opened(load_config, data, out)
    text = text or (scene.texts.example(),)
    Render(scene.path, out / "text.mp4", text=list(text), frames=frames).main()
    return out / "text.mp4"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
