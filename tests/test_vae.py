"""The evidence lower bound against torch.distributions and against what sampling says."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from morphing_faces.train.networks import Batch, MlpDecoder, log_likelihood
from morphing_faces.train.recipe import Recipe
from morphing_faces.train.vae import VAE, active_units, kl_from_prior


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


SIGMAS = {"one": (1, 1, 1, 1), "one a picture": (6, 1, 1, 1), "a map": (1, 1, 4, 5), "a map a picture": (6, 1, 4, 5)}


@pytest.mark.parametrize("shape", SIGMAS.values(), ids=SIGMAS)
def test_log_likelihood_is_summed_over_pixels_as_torch_distributions_says(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.rand(6, 3, 4, 5, generator=generator), torch.rand(6, 3, 4, 5, generator=generator)
    log_sigma = torch.randn(shape, generator=generator)
    expected = Normal(mean, log_sigma.exp().expand_as(x)).log_prob(x).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_likelihood(x, mean, log_sigma), expected, rtol=1e-4, atol=1e-3)


def test_active_units_are_the_dimensions_whose_means_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.2, 0.05, 0.0])  # variances 1, 0.04, 0.0025, 0; the threshold is 0.01
    means = torch.randn(4000, 4, generator=generator) * spread + torch.tensor([0.0, 5.0, 5.0, 5.0])
    assert active_units(means).tolist() == [True, True, False, False]
    assert active_units(means, threshold=0.5).tolist() == [True, False, False, False]


def test_the_gradient_flows_through_the_sample_to_mean_and_log_variance() -> None:
    torch.manual_seed(0)
    model = VAE(Recipe(latent_size=4, hidden=(8,), batch=2), (6, 6, 1))
    x, noise = torch.rand(5, 1, 6, 6), torch.randn(5, 4)
    answers: list[torch.Tensor] = []

    def remember(_module: object, _inputs: object, outputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        for tensor in outputs:
            tensor.retain_grad()
        answers.extend(outputs)

    model.encoder.register_forward_hook(remember)
    model(Batch(x), noise).log_likelihood.sum().backward()
    mean, log_variance = answers
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert (mean.grad != 0).all()
    # z = mean + exp(log_variance / 2) noise, so dz/dlog_variance = noise exp(log_variance / 2) / 2.
    expected = mean.grad * noise * torch.exp(0.5 * log_variance.detach()) / 2
    torch.testing.assert_close(log_variance.grad, expected)


def test_the_bound_is_that_of_the_terms() -> None:
    """The terms of a pass are those of the distributions that encoder and decoder answer with."""
    torch.manual_seed(1)
    model = VAE(Recipe(latent_size=4, hidden=(8,)), (6, 6, 1))
    x, noise = torch.rand(5, 1, 6, 6), torch.randn(5, 4)
    terms = model(Batch(x), noise)
    mean, log_variance = model.encode(x)
    picture, log_sigma = model.decode(mean + torch.exp(0.5 * log_variance) * noise)
    q = Normal(mean, (0.5 * log_variance).exp())
    expected = Normal(picture, log_sigma.exp().expand_as(x)).log_prob(x).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(terms.log_likelihood, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(terms.kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1), rtol=1e-4, atol=1e-5)
    assert not terms.guide.any(), "without landmarks there is nothing to be guided by"


@pytest.fixture
def reader() -> tuple[VAE, torch.Tensor]:
    """A small model that draws what it reads, a little, and pictures that it could draw better than its encoder knows."""
    torch.manual_seed(2)
    model = VAE(Recipe(latent_size=4, hidden=(16,)), (6, 6, 1)).requires_grad_(False)
    assert isinstance(model.decoder, MlpDecoder)
    with torch.no_grad():
        model.decoder.picture.weight.normal_()
        model.encoder.log_variance.bias.fill_(-8.0)  # as sure as one is that reads such pictures
        return model, model.decode(torch.randn(7, 4))[0]


def price(model: VAE, x: torch.Tensor, z: torch.Tensor, kl_weight: float) -> torch.Tensor:
    """Nats, (n,): what a refined code is to make small."""
    with torch.no_grad():
        picture, log_sigma = model.decode(z)
        length = -Normal(0.0, 1.0).log_prob(z).sum(1) * kl_weight  # type: ignore[no-untyped-call]
        return length - log_likelihood(x, picture, log_sigma)


def test_a_refined_code_is_nearer_to_the_optimum_and_never_worse(reader: tuple[VAE, torch.Tensor]) -> None:
    model, x = reader
    first, log_variance = model.encode(x)
    before = price(model, x, first, 2.0)
    last = before
    for steps in (1, 4, 16):
        mean, same = model.refine(x, steps, 2.0)
        assert torch.equal(same, log_variance)
        assert not mean.requires_grad
        now = price(model, x, mean, 2.0)
        assert (now <= last + 1e-3).all(), "of more steps the best is no worse"
        last = now
    assert (last < before - 1).all(), "it does nothing: this shows nothing"


def test_each_picture_is_refined_by_itself_and_no_step_changes_nothing(reader: tuple[VAE, torch.Tensor]) -> None:
    model, x = reader
    torch.testing.assert_close(model.refine(x, 0, 1.0)[0], model.encode(x)[0])
    together, alone = model.refine(x, 5, 1.0)[0], model.refine(x[2:3], 5, 1.0)[0]
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-4)


def test_a_descent_that_leaves_all_bounds_keeps_the_encoders_code(
    reader: tuple[VAE, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = reader
    monkeypatch.setattr("morphing_faces.train.vae.REFINE_RATE", 1e30)
    assert torch.equal(model.refine(x, 5, 1.0)[0], model.encode(x)[0])


def test_sigma_stays_above_its_bound() -> None:
    model = VAE(Recipe(latent_size=4, hidden=(8,), sigma_min=0.05), (6, 6, 1))
    with torch.no_grad():
        assert isinstance(model.decoder, MlpDecoder)
        model.decoder.log_sigma.bias.fill_(-1000.0)
        _, log_sigma = model.decode(torch.randn(3, 4))
    assert log_sigma.exp().flatten().tolist() == pytest.approx([0.05] * 3)
