"""Coordinates: the flow between N(0, I) and the aggregate posterior, and directions ordered by what they change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.train import flow as flows
from morphing_faces.train import latents
from morphing_faces.train.flow import Flow, restored
from morphing_faces.train.latents import (
    Posterior,
    aggregate_posterior,
    encode_all,
    find_latents,
    fit,
    mean_jtj,
)
from morphing_faces.train.loop import load_run
from morphing_faces.train.recipe import Recipe
from morphing_faces.train.trainer import to_pictures
from morphing_faces.train.vae import VAE

LAYERS, STEPS = 6, 120


def bow(count: int, seed: int) -> Posterior:
    """Codes of 5 dimensions that lie on a bow: nothing a Gaussian could say of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=generator)
    x[:, 1] = 0.2 * x[:, 1] + x[:, 0].square()
    return Posterior(x + 3, torch.full((count, 5), 1e-4))


@pytest.fixture(scope="module")
def small() -> VAE:
    """A network of 5 latent dimensions at its initial weights."""
    torch.manual_seed(0)
    return VAE(Recipe(latent_size=5, hidden=(8,)), (6, 6, 1)).requires_grad_(False)


@pytest.fixture(scope="module")
def fitted(small: VAE) -> Flow:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "STEPS", STEPS)
        return fit(bow(2000, 0), small, LAYERS, 0)


def nats(flow: Flow, codes: Posterior) -> float:
    """Nats of a code, but for a constant that every flow with these moments shares."""
    with torch.no_grad():
        return float(flow.length(codes.means, flow.whitening()).mean())


def test_a_flow_goes_there_and_back(fitted: Flow) -> None:
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        code = fitted(x)
        torch.testing.assert_close(fitted.inverse(code), x, atol=1e-4, rtol=1e-4)
        w = fitted.bend(x)
        _, log_determinant = fitted.straighten(w)
    assert (w - x).abs().max() > 0.3, "it does nothing: this shows nothing"
    jacobian = torch.autograd.functional.jacobian(lambda one: fitted.straighten(one[None])[0][0], w[0])
    assert float(log_determinant[0]) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-4)  # type: ignore[arg-type]


def test_a_flow_says_shorter_what_it_has_not_seen(fitted: Flow, small: VAE) -> None:
    gaussian = fit(bow(2000, 0), small, 0, 0)
    assert nats(fitted, bow(1000, 1)) < nats(gaussian, bow(1000, 1)) - 0.5


def test_a_flow_of_no_layers_is_the_gaussian(small: VAE) -> None:
    codes = bow(2000, 0)
    flow = fit(codes, small, 0, 0)
    x = torch.randn(4, 5)
    mean, covariance = codes.moments()
    torch.testing.assert_close(flow(x), mean.float() + x @ torch.linalg.cholesky(covariance).float().T)


def test_fitting_depends_on_its_arguments_alone(fitted: Flow, small: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "STEPS", STEPS)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = fit(bow(2000, 0), small, LAYERS, 0)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    copied = restored(fitted.state_dict(), LAYERS)
    x = torch.randn(3, 5)
    assert torch.equal(copied(x), fitted(x))


def test_what_is_not_visible_moves_nothing_that_is(fitted: Flow) -> None:
    """The first two of five directions are the visible ones; they move the others, and each other."""
    x = torch.randn(5, generator=torch.Generator().manual_seed(3))
    jacobian = torch.autograd.functional.jacobian(lambda one: fitted.bend(one[None])[0], x)
    assert torch.equal(jacobian[:2, 2:], torch.zeros(2, 3))
    assert jacobian[2:, :2].abs().max() > 1e-4
    assert torch.tensor([jacobian[0, 1], jacobian[1, 0]]).abs().min() > 1e-4  # type: ignore[arg-type]


def test_the_layers_of_another_flow_are_refused_by_name(fitted: Flow) -> None:
    with pytest.raises(UserError, match=r"the run's flow: layers\.6\.\S+: expected \(.+\), found nothing"):
        restored(fitted.state_dict(), LAYERS + 2)
    with pytest.raises(UserError, match="the run's flow: "):
        restored(Flow(5, 0).state_dict(), LAYERS)


def test_what_is_hardly_visible_is_left_to_the_gaussian() -> None:
    flow = Flow(400, LAYERS).eval()
    for layer in flow.layers:
        torch.nn.init.normal_(layer.output.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        moved = (flow.bend(x) - x).abs().amax(0)
    assert moved[: flows.MAPPED].min() > 0
    assert torch.equal(moved[flows.MAPPED :], torch.zeros(400 - flows.MAPPED))


@pytest.mark.parametrize("size", [2, 3, 400])
def test_a_flow_of_any_size_goes_back(size: int) -> None:
    torch.manual_seed(0)
    flow = Flow(size, LAYERS).eval()
    for layer in flow.layers:
        torch.nn.init.normal_(layer.output.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    x = torch.randn(9, size)
    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(x)), x, atol=1e-3, rtol=1e-3)


# --- of a trained network


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Dataset:
    return open_dataset(tiny_data)


@pytest.fixture(scope="module")
def network(tiny_run: Path, data: Dataset) -> VAE:
    return load_run(tiny_run, data.image_shape)[0]


def test_the_first_directions_of_a_flow_are_the_most_visible(
    network: VAE, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "STEPS", 1)
    posterior = encode_all(network, data.images, data.training, mirror=True)
    turned, plain = (fit(posterior, network, layers, 0) for layers in (3, 0))
    torch.testing.assert_close(turned.root @ turned.root.T, plain.root @ plain.root.T, atol=1e-4, rtol=1e-3)
    seen, unturned = (
        mean_jtj(network, lambda x, flow=flow: flow.mean + x @ flow.root.T, 512, seed=9).diag()  # type: ignore[misc]
        for flow in (turned, plain)
    )
    assert seen[:8].sum() > 0.9 * unturned.topk(8)[0].sum()
    assert seen[:8].mean() > 2 * seen[-8:].mean()


def test_latents_go_to_codes_and_back(network: VAE, data: Dataset) -> None:
    posterior = encode_all(network, data.images, data.training, mirror=True)
    own = find_latents(network, fit(posterior, network, 0, 0), probes=64, seed=0)
    z = torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(own.z(own.code(z)), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own.turn @ own.turn.T, torch.eye(32, dtype=torch.float64))


def test_a_prior_is_fitted_to_refined_codes_where_the_recipe_says_so(
    network: VAE, data: Dataset, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "REFINED_AT_ONCE", 8)
    recipe = load_run(tiny_run, data.image_shape)[1]
    rows = data.training[:20]
    plain = aggregate_posterior(network, data.images, rows, recipe)
    torch.testing.assert_close(plain.means, encode_all(network, data.images, rows, recipe.mirror).means)
    refined = aggregate_posterior(network, data.images, rows, recipe.replace(refine=3, precision="fp32"))
    assert len(refined.means) == len(refined.variances) == 20
    x = to_pictures(data.images[rows], "cpu")
    for part, pictures in ((slice(8), x[:8]), (slice(8, 16), x[8:16].flip(3)), (slice(16, 20), x[16:])):
        expected, log_variance = network.refine(pictures, 3, recipe.kl_weight)
        torch.testing.assert_close(refined.means[part], expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(refined.variances[part], log_variance.exp(), atol=1e-3, rtol=1e-3)
    assert (refined.means[:8] - plain.means[:8]).abs().max() > 0.1, "they are not refined: this shows nothing"


def test_random_faces_go_as_far_as_they_are_told(network: VAE, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "STEPS", 1)
    flow = fit(encode_all(network, data.images, data.training, mirror=True), network, 3, 0)
    own = find_latents(network, flow, 64, 0, (0.5, 1.0, 2.0))
    z = torch.randn(4000, 32, generator=torch.Generator().manual_seed(1))
    x = flow.inverse(own.code(z))
    expected = torch.tensor([0.5] * 16 + [1.0] * 16)  # 32 coordinates are all mapped, half of them by themselves
    torch.testing.assert_close(x.std(0), expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(own.z(own.code(z[:20])), z[:20], atol=1e-3, rtol=1e-3)
    assert (own.share.diff() <= 0).all(), "still ordered by what is seen"
