"""A learned similarity beside pixel error: the critic of VAE-GAN (Larsen et al., 2016, arXiv:1512.09300).

Squared error blurs. From a step on, the encoder rests, so that the posterior, its KL and the coordinates stay as they
are, and the decoder also follows a critic that looks at two kinds of its pictures: reconstructions, which should have
the photograph's features, and new faces, of latents as a person's will be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from ..dataset import Dataset, spread
from .coordinates import ENCODED, encode_all
from .critic import Critic, Features
from .flow import fit, restored
from .networks import VAE
from .recipe import Config


class Adversary:
    """The critic, its optimizer, and the map of the aggregate posterior, from which it is shown faces.

    ``prior`` is the state of such a map, where a run is resumed; otherwise it is fitted now.
    """

    def __init__(
        self, config: Config, model: VAE, dataset: Dataset, world: int, prior: dict[str, Tensor] | None = None
    ):
        self.config = config
        device = model.mean_face.device
        self.features = Features().to(device)
        self.critic = Critic(config.critic_width).to(device)
        for network in (self.features, self.critic):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_learning_rate, betas=(0.0, 0.99))
        self.world = world
        if prior:
            self.prior = restored(prior, config).to(device)
        else:
            rows = spread(dataset.rows("train"), ENCODED)
            self.prior = fit(encode_all(model, dataset, rows, config.mirror), config, model)

    @torch.no_grad()
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Raw latents (count, latent_size) as u ~ N(0, I) gives them."""
        size, device = len(self.prior.mean), self.prior.mean.device
        return self.prior.raw(torch.randn(count, size, generator=generator, device=device))

    def learn(self, x: Tensor, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One step of the critic on photographs ``x`` and ``pictures``: their reconstructions, after them new faces.

        Returns its loss, a scalar (1 when it knows nothing, 0 when all), and what to add to the gradient at ``pictures`` of
        the decoder's loss, in nats per pixel value. Each picture is scored against a photograph, a reconstruction against
        its own (Jolicoeur-Martineau, 2018, arXiv:1807.00734). The critic's loss is the hinge: it has to rank the photograph
        higher by 1 and gains nothing by more. One that goes on, as with the logistic loss, ranks it higher by 10 and grows
        so steep that what it asks for are scratches. Loss and push come from one pass through the critic as it was before
        the step.
        """
        n = len(x)
        pictures = pictures.detach().requires_grad_()
        disturbance = draw(len(pictures), self.config, generator, pictures.device)
        alike = {key: value[:n] for key, value in disturbance.items()}  # what is compared is disturbed alike
        real, made = disturb(x, alike), disturb(pictures, disturbance)
        seen, own = self.features(real), self.features(made)
        scores = self.critic([torch.cat(pair) for pair in zip(seen, own, strict=True)])

        gaps = [s[n:] - s[:n].repeat(len(pictures) // n, 1) for s in scores]
        distance = torch.stack([_distance(f, g[:n]) for f, g in zip(seen, own, strict=True)]).mean()
        fooling = -torch.stack([gap.mean() for gap in gaps]).mean()
        loss = self.config.adversarial * (fooling + self.config.feature_matching * distance)
        (push,) = torch.autograd.grad(loss, pictures, retain_graph=True)
        push[n:] *= self.config.adversarial_faces

        loss = torch.stack([F.relu(1 + gap).mean() for gap in gaps]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        parameters = list(self.critic.parameters())
        loss.backward(inputs=parameters)
        self._average(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        return loss.detach(), push  # not read here: reading makes a GPU wait

    def _average(self, parameters: Sequence[Tensor]) -> None:
        """The gradients' mean over the processes."""
        if self.world == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        flat /= self.world
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)


def _distance(real: Tensor, made: Tensor) -> Tensor:
    """Mean absolute difference of features, as a fraction of the real ones' mean size."""
    real = real.float()
    return (made.float() - real).abs().mean() / real.abs().mean().clamp_min(1e-6)


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
