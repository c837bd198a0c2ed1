"""How alike words are to CLIP: cosines of real text embeddings, for words that the generators' kinds stand for.

Measured on 103 embeddings of CLIP ViT-B/16 (the text table that OpenGaussian distributes for LERF-OVS and ScanNet):
cosines after the mean of all 103 was taken away, in hundredths, lower triangle, row by row. Each word of a generator
takes the place of one real text; where no text of that name exists, of one that is as far from the others as a toy or
tool would be. The raw cosines of any two of the 103 have quartiles 0.50, 0.57 and 0.65.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

WORDS: dict[str, str] = {
    "mug": "coffee mug",
    "cup": "sake cup",
    "bowl": "bowl",
    "pot": "pot",
    "plate": "plate",
    "teapot": "pour-over vessel",
    "pencil cup": "dark cup",
    "bottle": "ketchup",
    "flowerpot": "green apple",
    "book": "books",
    "open book": "paper",
    "chair": "chair",
    "lamp": "lamp",
    "snowman": "miffy",
    "block tower": "rubics cube",
    "alarm clock": "old camera",
    "toy car": "toy elephant",
    "mushroom": "pumpkin",
    "dumbbell": "plastic ladle",
    "ball pyramid": "three cookies",
    "ball": "egg",
    "house": "toy cat statue",
    "rubber duck": "rubber duck with hat",
    "candle": "corn",
    "robot": "jake",
    "gift box": "box",
    "ring stack": "pirate hat",
    "apple": "apple",
    "rocket": "pikachu",
    "wheel": "tesla door handle",
    "table": "table",
    "floor": "floor",
    "wall": "wall",
    "shelf": "shelves",
    "cupboard": "cabinet",
    "sofa": "sofa",
    "cushion": "pillow",
    "picture": "picture",
    "television": "television",
    "object": "object",
    "things": "things",
    "stuff": "stuff",
    "texture": "texture",
    "spoon": "spoon",
    "knife": "knife",
    "toaster": "toaster",
    "bag": "bag",
    "towel": "towel",
    "mirror": "mirror",
    "bear": "stuffed bear",
}
"""Word of a generator to the text whose cosines it has."""

_HUNDREDTHS = """
 21 17 18 10 1 31 8 5 44 10 40 32 13 13 0 37 31 10 5 -6 30 -5 -5 -6 10 -8 -2 1 -10 -1 -9 -3 -12 -4 7 8 5 -18 13 4 7
-10 -19 -10 -13 -10 -13 -1 5 1 -6 -9 3 -5 21 1 -5 3 0 5 -11 -3 -3 -8 -8 0 1 -5 2 2 5 -4 4 -8 -5 -1 7 19 -15 2 -15 -4
-8 -11 -13 2 8 -5 -9 -8 -8 -3 7 -11 -11 -13 -9 -4 -7 3 0 -3 -2 -6 14 3 -2 -8 -9 3 0 7 -7 0 -8 -1 1 10 -6 12 -12 -2
-17 -7 -13 1 -3 -7 11 -16 -13 -3 -2 15 12 11 -13 -11 -3 8 -5 -10 -1 13 22 -6 1 -3 6 6 -1 -2 6 12 14 7 12 7 31 11 0
-5 -16 -4 -3 0 -4 -4 -8 8 -14 -6 -1 -17 -14 -9 -1 4 -1 5 -6 -5 -12 -15 -1 3 -2 1 2 -5 -5 -10 14 9 3 -18 -16 -2 0 16
4 -5 4 7 -6 -14 -9 13 -10 -9 -5 7 -13 -8 -6 13 -3 -6 1 -13 -11 3 -1 9 5 14 44 -2 7 -1 -21 1 4 -11 -8 -10 10 7 -3 3
-14 -12 -7 -8 18 4 6 19 6 17 -2 -1 24 -16 -12 3 8 -5 -15 -9 8 9 1 -2 -8 -1 2 -5 -8 -1 23 -7 3 24 -12 2 -3 -13 11 8 5
-15 -19 -12 -14 36 6 -13 -11 2 0 -17 -18 3 -15 -8 37 -20 -12 9 -1 -15 20 16 11 -10 -25 -15 -20 39 -1 -13 -7 7 1 -18
-20 -8 -14 -15 34 -16 -16 6 60 1 5 -6 1 -1 18 12 2 0 -11 -6 -3 -1 0 -2 10 9 3 12 -2 -10 10 40 -7 -4 -14 1 -13 10 10
1 -10 -23 4 24 25 2 -12 -1 11 0 -11 -13 13 -14 -12 33 -15 -17 11 42 46 -11 -14 -5 -17 -5 -11 -12 -8 3 10 -9 -9 -4 -8
31 4 1 17 12 -8 2 8 10 27 23 0 -10 10 -2 3 8 -17 -21 -6 7 5 -6 1 -22 -22 -7 -2 -1 -3 8 6 -10 12 11 -18 11 3 -9 -19
-16 5 -10 1 5 -1 18 0 18 1 -5 -7 -14 7 2 29 17 -9 -4 -5 -11 -8 -13 -8 -8 -5 -18 -10 -3 -3 -7 -3 -9 -13 2 -19 13 11
16 -9 -22 -15 -22 33 3 -7 -8 1 -6 -19 -21 -10 -10 -14 28 -18 -15 2 51 63 -19 34 -9 -18 5 -8 -11 0 7 4 -17 -7 -8 -6 6
15 2 -2 -3 1 -1 -13 -1 -18 -4 0 -15 -16 1 3 0 -13 1 -5 -15 -2 7 -6 1 -10 -10 -3 -3 4 -6 -7 19 -5 -2 -1 -6 0 -4 -4 -8
-5 6 -15 1 -6 -6 -15 -16 -5 -16 -6 0 1 -12 17 -5 -7 1 9 7 -14 -14 -12 -11 6 2 10 7 -8 -1 0 -9 -6 -17 -6 -10 -5 -20
-7 0 6 -15 -3 -9 0 18 5 3 18 4 -2 4 -8 0 -9 -6 -1 -3 -2 -5 39 9 -7 -9 5 -2 4 -9 -5 -13 3 -5 -4 -15 -13 -6 -12 -4 0
14 -6 1 4 -3 15 -15 8 5 12 -2 -12 -5 -10 1 5 24 17 -4 -8 -2 -3 2 -3 -11 -3 -3 -4 1 -7 -6 1 -5 -5 -5 9 2 6 -8 -8 42
-7 -19 9 14 17 -14 -15 1 -12 18 12 0 2 3 -6 8 -16 -6 -11 -12 15 -16 -15 0 23 25 -7 15 -6 -17 6 22 21 -5 10 -3 5 -4
-13 4 -5 1 -12 -8 3 -9 2 1 5 7 -5 3 22 -1 -2 -6 -7 1 -5 -14 2 -4 -2 -7 2 -2 -1 6 -3 8 2 17 21 9 12 -4 -13 13 13 5
-12 -14 -7 -12 20 18 3 7 -3 -3 -6 -11 -4 -12 -15 24 -10 -20 1 29 34 -17 19 -12 -20 10 23 9 -1 18 -7 1 29 7 -2 -20 -3
4 3 -18 -14 0 -9 30 12 -3 2 4 -3 -8 -10 5 -19 -2 17 -15 -18 8 23 22 -12 21 1 -13 1 19 12 9 9 -9 3 20 11 36 -1 -14 12
8 8 -12 -23 -11 -11 33 -5 -12 -7 5 -2 -15 -20 -7 -13 -12 31 -12 -11 4 53 69 -12 45 -7 -16 -8 58 3 -8 -3 -14 -8 19 -8
28 28 -6 -12 -1 5 6 -12 -1 5 -3 9 19 -4 2 -6 -3 9 -7 6 -10 -5 3 -14 -15 5 9 5 -5 5 -6 -10 6 7 24 -5 -2 1 4 31 14 15
25 3 -2 -3 15 14 3 -2 -8 2 -4 8 5 -10 -2 -4 -19 -18 -9 -3 21 0 21 -16 -13 8 16 17 -8 12 -13 0 -10 12 -7 -14 -4 -9 1
5 -1 12 7 11 4 -9 -7 0 -5 5 -17 -9 14 0 -7 10 -5 7 -5 -7 1 -3 1 6 -2 0 -11 -17 7 1 -9 -1 2 -3 9 1 -7 4 -5 3 -7 0 4 5
8 5 -4 7 22 6 -7 -9 -3 -2 6 -4 3 -7 -10 -3 4 12 -9 -1 20 1 0 -6 5 -4 5 -9 -4 -12 -10 -1 -6 -4 13 0 -13 -3 -8 -1 7 4
-6 22 -8 -10 -12 -1 -9 7 5 -16 6 10 13 -13 -16 -14 -10 27 7 0 -3 2 -3 4 -11 -3 -9 -11 13 -11 -10 1 28 38 -7 24 -1
-16 3 29 8 -12 4 1 12 18 -3 21 15 34 7 -4 -6 -6 9 -9 12 -2 5 -1 -16 -6 -13 17 14 -4 -4 -9 -7 -8 -10 -7 -9 -6 5 -8
-11 5 14 16 -14 15 -8 -12 4 14 0 -7 0 -4 17 5 1 11 8 11 6 4 1 4 13 -13 -20 2 1 8 -15 -16 -7 -10 11 14 -3 5 -4 -5 -2
-15 -3 -9 -7 15 -14 -15 -3 13 13 -10 11 -13 -4 -1 16 7 -3 13 -9 -2 12 7 20 11 10 5 20 6 -6 6 7 -7 -3 -14 -14 -8 0 1
-4 11 -20 -13 2 -7 12 3 8 45 7 -1 7 -15 36 24 -10 -20 -26 14 -18 13 5 -14 -23 -13 5 -8 4 10 -18 -14 -19 -13 -12 -7
-16 -3 -1 -12 -8 -16
"""


def gram() -> Float[np.ndarray, "W W"]:
    """Cosines of all pairs of `WORDS`, in their order."""
    out = np.eye(len(WORDS))
    row, column = np.tril_indices(len(WORDS), -1)
    out[row, column] = out[column, row] = np.array(_HUNDREDTHS.split(), float) / 100
    return out
