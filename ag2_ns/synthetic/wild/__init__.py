"""A simulated segmenter and encoder that err as SAM and CLIP do, for any generated scene that knows its parts."""

from ag2_ns.synthetic.wild.difficulty import WILD, Difficulty

__all__ = ["WILD", "Difficulty"]
