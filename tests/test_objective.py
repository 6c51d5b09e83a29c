"""The evidence lower bound against torch.distributions and against what sampling says."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from morphing_faces.train.networks import VAE, Decoder
from morphing_faces.train.objective import active_units, gaussian_log_likelihood, kl_from_prior
from morphing_faces.train.recipe import Config


def gaussians(n: int = 7, size: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, size, generator=generator), torch.randn(n, size, generator=generator)


def test_kl_is_the_closed_form_of_torch_distributions() -> None:
    mean, log_variance = gaussians()
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_from_prior(mean, log_variance), expected, rtol=1e-5, atol=1e-6)


def test_kl_is_what_monte_carlo_estimates() -> None:
    mean, log_variance = gaussians(n=1, size=4, seed=3)
    q, p = Normal(mean.double(), (0.5 * log_variance.double()).exp()), Normal(0.0, 1.0)
    z = q.mean + q.stddev * torch.randn(200_000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ratios = q.log_prob(z) - p.log_prob(z)  # type: ignore[no-untyped-call]
    error = 5 * ratios.std(0) / math.sqrt(len(ratios))
    assert ((ratios.mean(0) - kl_from_prior(mean.double(), log_variance.double())[0]).abs() < error).all()


def test_kl_is_zero_at_the_prior_alone() -> None:
    zero = torch.zeros(1, 3)
    assert torch.equal(kl_from_prior(zero, zero), zero)
    assert (kl_from_prior(zero + 0.1, zero) > 0).all()
    assert (kl_from_prior(zero, zero - 0.1) > 0).all()


@pytest.mark.parametrize("shared", [True, False], ids=["one sigma", "a sigma for each picture"])
def test_log_likelihood_is_summed_over_pixels_as_torch_distributions_says(shared: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.rand(6, 3, 4, 5, generator=generator), torch.rand(6, 3, 4, 5, generator=generator)
    log_sigma = torch.full((1, 1), -1.3) if shared else torch.randn(6, 1, generator=generator)
    expected = Normal(mean, log_sigma.exp().reshape(-1, 1, 1, 1)).log_prob(x).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gaussian_log_likelihood(x, mean, log_sigma), expected, rtol=1e-5, atol=1e-3)


def test_active_units_are_the_dimensions_whose_means_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.2, 0.05, 0.0])  # variances 1, 0.04, 0.0025, 0; the threshold is 0.01
    means = torch.randn(4000, 4, generator=generator) * spread + torch.tensor([0.0, 5.0, 5.0, 5.0])
    assert active_units(means).tolist() == [True, True, False, False]
    assert active_units(means, threshold=0.5).tolist() == [True, False, False, False]


def test_the_gradient_flows_through_the_sample_to_mean_and_log_variance() -> None:
    config = Config(latent_size=4, hidden=(8,), batch=2)
    torch.manual_seed(0)
    model = VAE(config, (6, 6, 1))
    x, noise = torch.rand(5, 1, 6, 6), torch.randn(5, 4)
    picture, log_sigma, mean, log_variance = model(x, noise)
    mean.retain_grad()
    log_variance.retain_grad()
    gaussian_log_likelihood(x, picture, log_sigma).sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert (mean.grad != 0).all()
    # z = mean + exp(log_variance / 2) noise, so dz/dlog_variance = noise exp(log_variance / 2) / 2.
    expected = mean.grad * noise * torch.exp(0.5 * log_variance.detach()) / 2
    torch.testing.assert_close(log_variance.grad, expected)
    for name in ("mean", "log_variance"):
        weight = getattr(model.encoder, name).weight
        assert weight.grad.abs().sum() > 0, f"the encoder's {name} layer learns nothing"


def test_sigma_stays_above_its_bound() -> None:
    model = VAE(Config(latent_size=4, hidden=(8,), sigma_min=0.05), (6, 6, 1))
    with torch.no_grad():
        assert isinstance(model.decoder, Decoder)
        model.decoder.log_sigma.bias.fill_(-1000.0)
        _, log_sigma = model.decode(torch.randn(3, 4))
    assert log_sigma.exp().flatten().tolist() == pytest.approx([0.05] * 3)
