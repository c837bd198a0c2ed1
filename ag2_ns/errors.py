"""The one exception type that is shown to users as a single line."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible option.

    The message is one line that names the file, the problem and the remedy. The `ag2` command and, through
    `ag2_ns.compat`, every `ns-*` command print it without a traceback and exit with status 1.

    Not a `RuntimeError`, because nerfstudio swallows those while it loads checkpoints.
    """
