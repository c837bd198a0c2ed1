import pytest

from ag2_ns.errors import UserError
from ag2_ns.texts import TextEncoder


def test_texts_need_features(tmp_path):
    with pytest.raises(UserError, match="ag2 prepare"):
        TextEncoder(tmp_path).embed("mug")
    with pytest.raises(UserError, match="empty"):
        TextEncoder(tmp_path).embed("  ")
