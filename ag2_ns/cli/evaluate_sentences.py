"""`ag2 eval --sentences`: how well sentences are understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ag2_ns.cli.evaluate import Eval
    from ag2_ns.session.opened import OpenScene


def measure_sentences(options: Eval, scene: OpenScene) -> tuple[dict[str, Any], list[Table]]:
    """Ask the sentences, by everyone who is to answer them: figures by answerer, and tables to print."""
    from ag2_ns.core.notice import view_progress
    from ag2_ns.eval.referring_run import evaluate_ref_lerf, evaluate_set, table_of
    from ag2_ns.eval.tabletop import named_like, read_ground_truth

    tables, figures = [], {}
    lerf = (options.sentences / "json").is_dir()
    truth = None if lerf else named_like(read_ground_truth(options.ground_truth), scene.names_of)
    for by in options.sentences_by:
        if lerf:
            report = evaluate_ref_lerf(scene, options.sentences, by=by)
        else:
            with view_progress(len(scene.views), f"sentences by {by}") as progress:
                report = evaluate_set(
                    scene, options.sentences, truth, by=by, split=options.sentences_split, progress=progress
                )
        figures[by] = report.as_dict()
        tables.append(table_of(f"sentences by {by}", report))
    return figures, tables
