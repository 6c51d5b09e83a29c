"""A learned similarity beside pixel error: the critic of VAE-GAN (Larsen et al., 2016, arXiv:1512.09300).

Squared error blurs. From a step on, the encoder rests, so that the posterior, its KL and the coordinates stay as they
are, and the decoder also follows a critic that looks at two kinds of its pictures: reconstructions, which should have
the photograph's features, and new faces, of latents as a person's will be.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .config import Config
from .coordinates import ENCODED, encode_all
from .data import Dataset, spread
from .flow import fit, restored
from .networks import VAE, Critic


class Adversary:
    """The critic, its optimizer, and the map of the aggregate posterior, from which it is shown faces.

    ``prior`` is the state of such a map, where a run is resumed; otherwise it is fitted now.
    """

    def __init__(
        self, config: Config, model: VAE, dataset: Dataset, world: int, prior: dict[str, Tensor] | None = None
    ):
        self.config = config
        device = model.mean_face.device
        self.critic = Critic(model.image_shape[2], config.critic_widths).to(device)
        self.critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_learning_rate, betas=(0.0, 0.99))
        self.network: Any = DistributedDataParallel(self.critic) if world > 1 else self.critic
        self.world = world
        if prior:
            self.prior = restored(prior, config).to(device)
        else:
            rows = spread(dataset.rows("train"), ENCODED)
            self.prior = fit(encode_all(model, dataset, rows, config.mirror), config, device)

    @torch.no_grad()
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Raw latents (count, latent_size) as u ~ N(0, I) gives them."""
        size, device = len(self.prior.mean), self.prior.mean.device
        return self.prior.raw(torch.randn(count, size, generator=generator, device=device))

    def learn(self, x: Tensor, pictures: Tensor, sigma: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One step of the critic on photographs ``x`` and ``pictures``: their reconstructions, after them new faces.

        Returns its hinge loss, a scalar, and what to add to the decoder's loss's gradient at ``pictures``. On the
        reconstructions the root mean square of that is ``adversarial`` times that of the negative log-likelihood's
        gradient, (picture - x) / sigma^2, so that the balance needs no tuning by size of picture or stage of training;
        on new faces it is ``adversarial_faces`` times as strong.
        Hinge loss and push come from one pass through the critic as it was before the step.
        """
        n = len(x)
        pictures = pictures.detach().requires_grad_()
        disturbance = draw(len(pictures), self.config, generator, pictures.device)
        alike = {key: value[:n] for key, value in disturbance.items()}  # what is compared is disturbed alike
        scores, features = self.network(torch.cat([disturb(x, alike), disturb(pictures, disturbance)]))

        distance = torch.stack([(f[n : 2 * n].float() - f[:n].detach().float()).abs().mean() for f in features]).mean()
        score = torch.stack([s[n:].mean() for s in scores]).mean()
        loss = self.config.feature_matching * distance - score
        (gradient,) = torch.autograd.grad(loss, pictures, retain_graph=True)
        likelihood = (pictures.detach()[:n] - x) / sigma[:, :, None, None] ** 2 / x.numel()
        sizes = torch.stack([likelihood.square().mean(), gradient[:n].square().mean()])
        if self.world > 1:  # the same factor on every process, or their gradients would not average
            dist.all_reduce(sizes)
        push = gradient * (self.config.adversarial * (sizes[0] / sizes[1].clamp_min(1e-30)).sqrt())
        push[n:] *= self.config.adversarial_faces

        hinge = torch.stack([F.relu(1 - s[:n]).mean() + F.relu(1 + s[n:]).mean() for s in scores]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        parameters = list(self.critic.parameters())
        hinge.backward(inputs=parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        return hinge.detach(), push  # not read here: reading makes a GPU wait


def draw(count: int, config: Config, generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """A disturbance of ``count`` pictures, as in Zhao et al. (2020), arXiv:2006.10738: shifts and colours."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * 2 - 1

    colour = config.critic_colour
    return {
        "shift": (uniform(2) * (config.critic_shift + 0.499)).round().long(),
        "brightness": uniform(1, 1, 1) * colour,
        "contrast": 1 + uniform(1, 1, 1) * colour,
        "saturation": 1 + uniform(1, 1, 1) * colour,
    }


def disturb(x: Tensor, disturbance: dict[str, Tensor]) -> Tensor:
    """Pictures (n, c, h, w) shifted by whole pixels (edges repeated) and with other colours; differentiable."""
    _, _, height, width = x.shape
    middle = x.mean((1, 2, 3), keepdim=True)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * disturbance["saturation"]
    x = middle + (x - middle) * disturbance["contrast"] + disturbance["brightness"]
    shift = disturbance["shift"]
    rows = (torch.arange(height, device=x.device) + shift[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) + shift[:, 1:]).clamp(0, width - 1)
    pictures = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[pictures, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
