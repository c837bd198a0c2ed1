"""Modules that need each other's packages, each imported first in a process of its own."""

import pytest
from own_process import run_script


@pytest.mark.parametrize("module", ["world", "stand_in", "room", "tabletop.generate", "wild.masks"])
def test_any_module_may_be_imported_first(module):
    done = run_script(f"import ag2_ns.synthetic.{module}", interpreted=False)
    assert done.returncode == 0, done.stderr[-500:]
