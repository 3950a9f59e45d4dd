from __future__ import annotations

import pytest
import torch

import unrolled
from unrolled.errors import UnrolledError


def test_a_model_whose_scores_are_not_finite_says_so_and_still_has_a_report() -> None:
    run = unrolled.train("language-model", ["abc " * 50], hidden_size=4, epochs=1, quiet=True)
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.fill_(3e38)
    with pytest.raises(UnrolledError, match="scores are not finite"):
        run.generate(length=5)
    assert "scores are not finite" in run.report
