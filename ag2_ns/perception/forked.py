"""What workers of `ag2 prepare` find loaded and compiled: the server that they are forked from imports this module.

To be imported there only: that process is deaf to Ctrl-C, which its parent deals with, and uses one thread.
"""

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
gc.disable()

import cv2  # noqa: E402, F401
import numpy as np  # noqa: E402

from ag2_ns.ops.processes import one_thread  # noqa: E402
from ag2_ns.perception.palette import PaletteEncoder  # noqa: E402
from ag2_ns.perception.prepare import as_rgb  # noqa: E402
from ag2_ns.perception.superpixel import SuperpixelSegmenter  # noqa: E402

one_thread()
_image = as_rgb(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
PaletteEncoder().encode_image(_image, SuperpixelSegmenter().segment(_image))
gc.freeze()  # what is shared with the workers is not looked through, so it stays shared
gc.enable()
