"""Ground truth and predictions in the layouts of other projects."""

from ag2_ns.eval.formats.detect import FORMATS, read_benchmark
from ag2_ns.eval.formats.write import WRITERS, write_prediction

__all__ = ["FORMATS", "WRITERS", "read_benchmark", "write_prediction"]
