import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def blob_template(tmp_path_factory):
    from blob_run import build

    return build(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def blob_run(blob_template, tmp_path, monkeypatch):
    """config.yml of a run of one's own: a copy beside the template's data."""
    import yaml

    for name in ("AG2_QUERY", "AG2_EDITS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "out" / "blobs" / "ag2aussian-small" / "run"
    shutil.copytree(Path(blob_template).parent, folder)
    config = yaml.load((folder / "config.yml").read_text(), Loader=yaml.Loader)
    config.output_dir = tmp_path / "out"
    (folder / "config.yml").write_text(yaml.dump(config))
    return folder / "config.yml"


@pytest.fixture
def loaded(blob_run):
    from ag2_ns.run_access import load_run

    return load_run(blob_run)


@pytest.fixture
def session(loaded):
    return loaded.model.AG2.session
