"""What nerfstudio 1.1.5 needs on today's torch, numpy and bare machines. Applied once, when the plugin is imported."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

from ag2_ns.core.errors import UserError
from ag2_ns.core.garbage import collect_less


def look_no_sources_up() -> None:
    """Let nerfstudio list the methods that could be installed without reading source files.

    For each of them it asks for the whole call stack with lines of source, to learn who calls; with as many modules as
    are loaded by then that takes longer than all imports of this package, in every ns-* command.
    """
    from nerfstudio.configs import external_methods

    if getattr(external_methods, "inspect", None) is inspect:
        external_methods.inspect = SimpleNamespace(stack=partial(inspect.stack, 0))


@contextmanager
def compile_when_called() -> Iterator[None]:
    """Let what is imported meanwhile compile its decorated functions when they are first called, not at import.

    splatfacto decorates a function with `torch.compile`, and that imports all of torch's compiler.
    """
    import torch

    compile_now = torch.compile

    def later(model: Callable | None = None, **options: Any) -> Callable:
        if model is None:
            return partial(later, **options)
        compiled: list[Callable] = []

        @wraps(model)
        def call(*args: Any, **given: Any) -> Any:
            if not compiled:
                compiled.append(compile_now(model, **options))
            return compiled[0](*args, **given)

        return call

    torch.compile = later
    try:
        yield
    finally:
        torch.compile = compile_now


def allow_numpy_scalars() -> None:
    """Let `torch.load` accept the numpy scalars that nerfstudio's checkpoints hold as learning rates.

    torch >= 2.6 loads with `weights_only=True` and refuses them otherwise, which breaks ns-eval, ns-viewer, ns-render,
    ns-export and resuming, for checkpoints of any method.
    """
    import numpy
    import torch

    if not hasattr(torch.serialization, "add_safe_globals"):
        return
    core = numpy._core if hasattr(numpy, "_core") else numpy.core
    allowed = [core.multiarray.scalar, numpy.dtype]
    if hasattr(numpy, "dtypes"):
        allowed += [numpy.dtypes.Float64DType, numpy.dtypes.Float32DType, numpy.dtypes.Int64DType]
    torch.serialization.add_safe_globals(allowed)


def provide_ffmpeg() -> None:
    """Put the ffmpeg of the imageio-ffmpeg wheel on this process's PATH where the system has none."""
    if shutil.which("ffmpeg"):
        return
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        binary = Path(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ag2_ns" / "bin"
    link = folder / "ffmpeg"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not link.exists() or link.resolve() != binary.resolve():
            fresh = folder / f"ffmpeg.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(binary)
            os.replace(fresh, link)
    except OSError:
        return
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}{folder}"


def show_user_errors_in_one_line() -> None:
    """Print a `UserError` that reaches the top as one line; leave every other exception to the hook in place."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, UserError):
            sys.stdout.flush()
            print(f"error: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook.shows_user_errors = True  # type: ignore[attr-defined]
    if not getattr(previous, "shows_user_errors", False):
        sys.excepthook = hook


def apply() -> None:
    """Everything above but the first, which has to come earlier."""
    collect_less()
    allow_numpy_scalars()
    provide_ffmpeg()
    show_user_errors_in_one_line()
