"""`ag2 eval --vocabulary`: how well the names that a scene gave itself are those of a ground truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.cli.evaluate import Eval
    from ag2_ns.session.opened import OpenScene


def measure_names(options: Eval) -> None:
    """Measure the names that `ag2 name` gave a scene."""
    from ag2_ns.core.console import console
    from ag2_ns.core.notice import view_progress
    from ag2_ns.eval.named import evaluate_pictures, gaussian_classes, report_of, require_vocabulary
    from ag2_ns.eval.tabletop import named_like, read_ground_truth
    from ag2_ns.eval.vocabulary import map_by_answers, map_by_table, read_mapping, segmentation
    from ag2_ns.io.atomic import require_writable, write_atomic
    from ag2_ns.synthetic.captions import kind_of, same_thing

    require_writable(options.output_dir)
    scene = options.open(edits=False)
    words = require_vocabulary(scene).words
    labels = _class_names(options) if options.point_labels else read_ground_truth(options.ground_truth).labels
    classes = sorted({kind_of(label) for label in labels.values()})
    place = {number: classes.index(kind_of(label)) for number, label in labels.items()}
    table = read_mapping(options.mapping) if options.mapping else {}
    if any("'" in answer for answer in table.values()):
        mapping = map_by_answers(words, classes, table)
    else:
        known = {w: c for w in words for c in classes if same_thing(w, c)}
        mapping = map_by_table(words, classes, known | table)
    if options.point_labels is not None:
        truth = _point_classes(options, len(scene.gaussians), place)
        score = segmentation(gaussian_classes(scene, mapping), truth, classes)
        there = {classes[k] for k in truth.unique().tolist() if 0 <= k < len(classes)}
    else:
        pictures = named_like(read_ground_truth(options.ground_truth), scene.names_of)
        with view_progress(len(scene.views), "comparing") as progress:
            score = evaluate_pictures(scene, pictures, classes, place, mapping, progress)
        there = set(classes)
    by_class = lambda word, label: mapping.get(word, -1) == classes.index(label)  # noqa: E731
    report = report_of(scene, score, sorted(there), by_class, _noun_vectors(scene))
    content = report.as_dict() | {"mapping": {w: classes[k] if k >= 0 else "void" for w, k in mapping.items()}}
    write_atomic(options.output_dir / "vocabulary.json", (json.dumps(content, indent=2) + "\n").encode())
    out = console()
    out.print(f"words      {report.count}; recall {report.words.recall:.3f}, precision {report.words.precision:.3f}")
    if report.words.missed:
        out.print(f"missed     {', '.join(report.words.missed)}")
    if report.words.wrong:
        out.print(f"wrong      {', '.join(report.words.wrong)}")
    out.print(
        f"named mIoU {score.miou:.3f} (void left out, as published: {score.miou_published:.3f}); {score.void:.1%} void"
    )
    mean, deviation = report.random_tpss
    out.print(f"TPSS       {report.tpss:.2f}; {report.count} random nouns {mean:.2f} +- {deviation:.2f}")
    out.print(f"report     {options.output_dir / 'vocabulary.json'}")


def _class_names(options: Eval) -> dict[int, str]:
    """Class id to name, from labels.json."""
    path = options.ground_truth / "labels.json" if options.ground_truth.is_dir() else options.ground_truth
    try:
        return {int(k): str(v) for k, v in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        raise UserError(f"{path}: not a JSON of class id to name; --point-labels needs one") from None


def _point_classes(options: Eval, count: int, place: dict[int, int]):
    """The class of each point, 255 for those without."""
    import numpy as np
    import torch

    from ag2_ns.io.points import PointCloud, read_labels

    labels = read_labels(options.point_labels, PointCloud(np.zeros((count, 3), np.float32)))
    out = np.full(len(labels), 255, np.int64)
    for number, k in place.items():
        out[labels == number] = k
    return torch.from_numpy(out)


def _noun_vectors(scene: OpenScene):
    """Vectors of the nouns that the scene's encoder knows; None without one."""
    from ag2_ns.core.errors import EncoderGone, MissingLanguage
    from ag2_ns.perception.tagger import embed_words, words_for

    if scene.texts is None:
        return None
    try:
        encoder = scene.texts.encoder()
    except (EncoderGone, MissingLanguage):
        return None
    return embed_words(encoder, words_for(encoder))[1]
