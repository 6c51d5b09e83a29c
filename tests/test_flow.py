"""The map between N(0, I) and the aggregate posterior: exact both ways, learned, and folded into the bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import morphing_faces as mf
from morphing_faces import noise
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.train import checkpoint
from morphing_faces.train import export as exporting
from morphing_faces.train.coordinates import Coordinates, Posterior, effect, encode_all, find_coordinates, to_pictures
from morphing_faces.train.flow import Flow, fit, restored
from morphing_faces.train.networks import VAE
from morphing_faces.train.recipe import Config

BOW = Config(flow_layers=6, flow_width=32, flow_steps=300)


def bent(count: int, seed: int) -> Posterior:
    """Codes of 5 dimensions that lie on a bow: nothing a Gaussian could say of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=generator)
    x[:, 1] = 0.2 * x[:, 1] + x[:, 0].square()
    return Posterior(x + 3, torch.full((count, 5), 1e-4))


def length(flow: Flow, codes: Posterior) -> float:
    """Nats of a code, but for a constant that every flow with these moments shares."""
    w = (codes.means - flow.mean) @ torch.linalg.inv(flow.factor).T
    with torch.no_grad():
        x, log_determinant = flow.inverse(w)
    return float((0.5 * x.square().sum(1) - log_determinant).mean())


@pytest.fixture(scope="module")
def fitted() -> Flow:
    return fit(bent(2000, 0), BOW)


def test_a_flow_goes_there_and_back(fitted: Flow) -> None:
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        w = fitted(x)
        back, log_determinant = fitted.inverse(w)
    torch.testing.assert_close(back, x, atol=1e-4, rtol=1e-4)
    assert (w - x).abs().max() > 0.3, "it does nothing: this shows nothing"
    jacobian = torch.autograd.functional.jacobian(lambda one: fitted.inverse(one[None])[0][0], w[0])
    assert float(log_determinant[0]) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-4)  # type: ignore[arg-type]


def test_a_flow_says_shorter_what_it_has_not_seen(fitted: Flow) -> None:
    gaussian = fit(bent(2000, 0), Config(flow_layers=0))
    assert length(fitted, bent(1000, 1)) < length(gaussian, bent(1000, 1)) - 0.5


def test_a_flow_of_no_layers_is_the_gaussian() -> None:
    codes = bent(2000, 0)
    flow = fit(codes, Config(flow_layers=0))
    x = torch.randn(4, 5)
    mean, covariance = codes.moments()
    torch.testing.assert_close(flow.raw(x), mean.float() + x @ torch.linalg.cholesky(covariance).float().T)


def test_fitting_depends_on_its_arguments_alone(fitted: Flow) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = fit(bent(2000, 0), BOW)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    copied = restored(fitted.state_dict(), BOW)
    x = torch.randn(3, 5)
    assert torch.equal(copied.raw(x), fitted.raw(x))


def test_what_is_not_visible_moves_nothing_that_is(fitted: Flow) -> None:
    """The first two of five directions are the visible ones; they move the others, and each other."""
    x = torch.randn(5, generator=torch.Generator().manual_seed(3))
    jacobian = torch.autograd.functional.jacobian(lambda one: fitted(one[None])[0], x)
    assert torch.equal(jacobian[:2, 2:], torch.zeros(2, 3))
    assert jacobian[2:, :2].abs().max() > 1e-4
    assert torch.tensor([jacobian[0, 1], jacobian[1, 0]]).abs().min() > 1e-4  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 3, 400])
def test_a_flow_of_any_size_goes_back(size: int) -> None:
    torch.manual_seed(0)
    flow = Flow(size, 6, 16).eval()
    for layer in flow.layers:
        torch.nn.init.normal_(layer.say.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    x = torch.randn(9, size)
    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(x))[0], x, atol=1e-3, rtol=1e-3)


# --- in a bundle


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Dataset:
    return open_dataset(tiny_data)


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, as if its recipe had asked for a flow."""
    folder = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("flow") / "run"))
    settings = (folder / "config.toml").read_text(encoding="utf-8")
    for key, value in {"flow_layers": 3, "flow_width": 32, "flow_steps": 100}.items():
        settings = "".join(f"{key} = {value}\n" if line.startswith(key) else line for line in settings.splitlines(True))
    (folder / "config.toml").write_text(settings, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def network(run: Path, data: Dataset) -> VAE:
    return exporting.load_run(run, data.image_shape)[0]


@pytest.fixture(scope="module")
def coordinates(run: Path, network: VAE, data: Dataset) -> Coordinates:
    posterior = encode_all(network, data, data.rows("train"), mirror=True)
    config = exporting.load_run(run, data.image_shape)[1]
    return find_coordinates(network, posterior, probes=128, seed=0, flow=fit(posterior, config, network))


def test_the_first_directions_of_a_flow_are_the_most_visible(network: VAE, data: Dataset) -> None:
    posterior = encode_all(network, data, data.rows("train"), mirror=True)
    config = Config(flow_layers=3, flow_width=8, flow_steps=1)
    turned, plain = (fit(posterior, config, model) for model in (network, None))
    torch.testing.assert_close(turned.factor @ turned.factor.T, plain.factor @ plain.factor.T, atol=1e-4, rtol=1e-3)
    seen = effect(network, lambda x: turned.mean + x @ turned.factor.T, 512, seed=9).diag()
    assert (
        seen[:8].sum()
        > 0.9 * effect(network, lambda x: plain.mean + x @ plain.factor.T, 512, seed=9).diag().topk(8)[0].sum()
    )
    assert seen[:8].mean() > 2 * seen[-8:].mean()


def test_coordinates_go_through_the_flow_and_back(coordinates: Coordinates) -> None:
    u = torch.from_numpy(noise.normal(1, 0, 20, 32))
    torch.testing.assert_close(coordinates.u(coordinates.raw(u)), u.double(), atol=1e-5, rtol=1e-5)
    linear = coordinates.mean + u.double() @ coordinates.matrix.T
    assert (coordinates.raw(u) - linear).abs().max() > 0.01, "the flow does nothing: this shows nothing"


def test_a_bundle_with_a_flow_draws_and_encodes_as_the_run_does(
    run: Path, network: VAE, data: Dataset, tmp_path: Path
) -> None:
    exporting.export(run, data, tmp_path / "bundle", licence="none", probes=128)
    posterior = encode_all(network, data, data.rows("train"), mirror=True)
    flow = fit(posterior, exporting.load_run(run, data.image_shape)[1], network)
    own = find_coordinates(network, posterior, probes=128, seed=0, flow=flow)
    model = mf.load(tmp_path / "bundle")
    u = model.sample(20, seed=3)
    pictures = data.images[:20]
    with torch.no_grad():
        expected = network.decode(own.raw(torch.from_numpy(u)).float())[0].clamp(0, 1).permute(0, 2, 3, 1).numpy()
        code = own.u(network.encode(to_pictures(pictures))[0]).numpy()
    assert np.quantile(np.abs(model.decode(u) - expected), 0.999) <= 1 / 255
    assert np.quantile(np.abs(model.encode(pictures).mean - code), 0.999) <= 0.02


def test_a_flow_that_a_critic_was_shown_is_the_one_exported(
    run: Path, network: VAE, data: Dataset, tmp_path: Path
) -> None:
    posterior = encode_all(network, data, data.rows("train"), mirror=True)
    config = exporting.load_run(run, data.image_shape)[1]
    other = fit(posterior, config.replace(seed=5), network)
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    groups, state = checkpoint.load(copied)
    checkpoint.save(copied, {**groups, "prior": other.state_dict()}, state)
    found = exporting.saved_prior(copied, config)
    assert found is not None
    x = torch.randn(4, 32)
    assert torch.equal(found.raw(x), other.raw(x))
    assert exporting.saved_prior(run, config) is None
