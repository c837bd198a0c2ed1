"""A place for a language model: any callable from the scene as plain data and a sentence to ids of things.

```
def reasoner(scene: dict, sentence: str) -> list[int]:
    ...
ag2_ns.open(run).select(sentence="the mug you would drink from", reasoner=reasoner)
```

On the command line a reasoner is a command that reads one JSON object {"scene": ..., "sentence": ...} on standard input
and writes a JSON list of ids, or {"ids": [...], "reason": "..."}: `--reasoner 'python ask_model.py'`. The map lists
every instance with its names, colours, place and size, and how it stands to the others, so the model needs no pictures
(the way of OpenVoxel, arXiv 2601.09575, with geometry added).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.perception.palette import BASIC
from ag2_ns.query.sentence.meaning import SceneWords
from ag2_ns.query.sentence.solve import Solution
from ag2_ns.scene.geometry import Facts, Seen

Reasoner = Callable[[dict[str, Any], str], Any]
"""From (`scene_map`, sentence) to a list of ids or {"ids": [...], "reason": "..."}."""

TIMEOUT = 120.0
"""Seconds that a command may take."""
NAMED = 3
"""Names, and colours, that the map gives of each thing."""


def scene_map(facts: Facts, words: SceneWords, seen: Seen | None = None) -> dict[str, Any]:
    """The scene as plain data: things with id, names, colours, centre, size, what they stand on, what is near.

    Lengths are in scene units; x and y are horizontal, z is up. With a viewer, `right` and `ahead` are distances from
    its line of sight and from itself.
    """
    things = []
    for k in range(len(facts)):
        thing: dict[str, Any] = {"id": k, "is_thing": bool(facts.is_thing[k] > 0.5)}
        if words.fit is not None and len(words.names):
            best = np.argsort(-words.fit[k])[:NAMED]
            thing["names"] = {words.names[i]: _round(words.fit[k, i]) for i in best if words.fit[k, i] > 0.05}
        order = np.argsort(-facts.colours[k])[:NAMED]
        thing["colours"] = {BASIC[i]: _round(facts.colours[k, i]) for i in order if facts.colours[k, i] > 0.1}
        thing["centre"] = [_round(v) for v in facts.centre[k]]
        thing["size"] = [_round(v) for v in facts.size[k]]
        for name, matrix in (("on", facts.on), ("in", facts.inside), ("leaning_on", facts.leaning)):
            if (matrix[k] > 0.5).any():
                thing[name] = [int(i) for i in np.flatnonzero(matrix[k] > 0.5)]
        thing["near"] = [int(i) for i in np.argsort(facts.gap[k]) if i != k and facts.near[k, i] > 0.5][:5]
        if seen is not None:
            thing["right"], thing["ahead"] = _round(seen.lateral[k]), _round(seen.depth[k])
        things.append(thing)
    return {"unit": _round(facts.unit), "things": things, "viewer": seen is not None}


def reasoned(reasoner: Reasoner, sentence: str, facts: Facts, words: SceneWords, seen: Seen | None) -> Solution:
    """What a reasoner answers, as a solution.

    Raises:
        UserError: it answers something else than ids.
    """
    reply = reasoner(scene_map(facts, words, seen), sentence)
    reason = ""
    if isinstance(reply, dict):
        reply, reason = reply.get("ids"), str(reply.get("reason", ""))
    ok = isinstance(reply, (list, tuple)) and all(isinstance(i, int) and 0 <= i < len(facts) for i in reply)
    if not ok:
        raise UserError(f"the reasoner answered {str(reply)[:80]!r}; it must give a list of ids of the map's things")
    scores = np.zeros(len(facts))
    scores[list(reply)] = 1.0
    if not reply:
        return Solution((), 0.0, scores, None, reason or "the reasoner found nothing", sentence)
    return Solution(tuple(sorted(set(reply))), 1.0, scores, None, reason or "chosen by the reasoner")


def command_reasoner(command: Sequence[str]) -> Reasoner:
    """A reasoner that is a command: the map and the sentence go in as JSON, ids come out as JSON."""

    def ask(scene: dict[str, Any], sentence: str) -> Any:
        text = json.dumps({"scene": scene, "sentence": sentence})
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except FileNotFoundError:
            raise UserError(f"--reasoner: no such command {command[0]!r}; give one that is installed") from None
        except subprocess.TimeoutExpired:
            raise UserError(f"--reasoner: {command[0]!r} gave no answer within {TIMEOUT:g} s") from None
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise UserError(f"--reasoner: {command[0]!r} failed: {why}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise UserError(
                f"--reasoner: {command[0]!r} wrote {done.stdout.strip()[:60]!r}, which is not JSON; write a list of ids"
            ) from None

    return ask


def _round(value: float) -> float:
    return round(float(value), 4)
