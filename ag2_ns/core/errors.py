"""The one exception type that is shown to users as a single line, and other exceptions as one."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible option.

    The message is one line that names the file, the problem and the remedy. The `ag2` command and, through
    `ag2_ns.plugin.compat`, every `ns-*` command print it without a traceback and exit with status 1.

    Not a `RuntimeError`, because nerfstudio swallows those while it loads checkpoints.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = str(error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__
