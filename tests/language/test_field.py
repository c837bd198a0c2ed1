from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from ag2_ns.language.field import LanguageField
from ag2_ns.language.relevancy import relevancy


def field(n=20, d=8, seed=0) -> LanguageField:
    g = torch.Generator().manual_seed(seed)
    rows = normalize(torch.randn(n, d, generator=g), dim=1)
    return LanguageField(normalize(torch.randn(n, 4, generator=g), dim=1).half(), rows.half(), 0.2)


def test_relevancy_is_that_of_nodes():
    f, g = field(), torch.Generator().manual_seed(1)
    vector, negatives = torch.randn(8, generator=g), torch.randn(4, 8, generator=g)
    for rivals in (negatives, None):
        torch.testing.assert_close(f.relevancy(vector, rivals), relevancy(f.language, vector, rivals))


def test_without_language_it_is_nan():
    f = field()
    f.language[3] = 0
    value = f.relevancy(torch.ones(8), None)
    assert value[3].isnan() and value.isnan().sum() == 1
    empty = LanguageField(torch.zeros(2, 4), torch.zeros(2, 8), 0.1)
    assert empty.relevancy(torch.ones(8), None).isnan().all()


def test_another_encoder_is_refused():
    with pytest.raises(ValueError, match="vectors of length 7 for a field of 8"):
        field().cosines(torch.ones(2, 7))


def test_round_trip():
    f = field()
    again = LanguageField.from_dict(f.to_dict(), f.spread, f.per_gaussian)
    assert torch.equal(again.language, f.language) and torch.equal(again.instance, f.instance) and len(again) == 20
    assert f.to("cpu").spread == f.spread
