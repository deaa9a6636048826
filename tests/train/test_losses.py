"""Losses against a naive version in float64, and against their own slope."""

from __future__ import annotations

import math

import pytest
import torch

from stillhouse.train.losses.cross_entropy import CrossEntropy


def naive(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float) -> tuple[float, float]:
    total = 0.0
    for row, target, weight in zip(logits.tolist(), targets.tolist(), weights.tolist(), strict=True):
        norm = math.log(sum(math.exp(value) for value in row))
        surprise = [norm - value for value in row]
        total += weight * ((1 - smoothing) * surprise[target] + smoothing * sum(surprise) / len(surprise))
    return total, sum(weights.tolist())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_equals_the_naive_sum(smoothing: float, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = (torch.randn(7, 11, generator=draw) * 3).to(dtype)
    targets = torch.randint(11, (7,), generator=draw)
    weights = torch.rand(7, generator=draw)
    total, denominator = CrossEntropy(smoothing=smoothing)(logits, targets, weights)
    expected, expected_denominator = naive(logits.double(), targets, weights.double(), smoothing)
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(denominator) == pytest.approx(expected_denominator, rel=1e-6)


def test_cross_entropy_falls_along_its_gradient() -> None:
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(1), requires_grad=True)
    targets, weights = torch.arange(5), torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    total, _ = CrossEntropy()(logits, targets, weights)
    (slope,) = torch.autograd.grad(total, logits)
    expected = weights[:, None] * (logits.softmax(-1) - torch.nn.functional.one_hot(targets, 9))
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(slope[1], torch.zeros(9))
