"""A critic that knows faces: what it asks of the decoder is detail, held by an anchor to the structure the VAE draws.

Squared error blurs. The critic of a generative adversarial network tells photographs from drawn faces, and the decoder of
appearances learns what it misses, with the encoder and the shape at rest. Faces near the average one are like no photograph and
stay as the VAE draws them: a critic would give them wrinkles. Its trunk begins as the VAE's own encoder, so it
sees at once what a face is made of; one that saw through a network trained on other pictures is pleased by distorted faces
(Kynkaanniemi et al., 2023, arXiv:2203.06026). Relativistic pairs with R1 and R2 penalties as in R3GAN (Huang et al., 2024,
arXiv:2501.05441); what it sees is disturbed as in DiffAugment (Zhao et al., 2020, arXiv:2006.10738).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from ..dataset import Dataset
from .flow import Flow
from .latents import fit_prior
from .networks import Encoder, leaky_relu
from .recipe import Recipe
from .trainer import Metrics, Trainer, learning_rate
from .vae import VAE

LEARNING_RATE = 2e-4  # of the critic
GROUP = 4  # pictures whose spread of features the critic sees: faces that are all alike give themselves away
HEAD = 256  # channels of its head
RECONSTRUCTED = 4  # of a batch's pictures, in each step, are drawn from their own codes
RECONSTRUCTION_WEIGHT = 60.0  # of their mean squared error
ANCHOR_WEIGHT = 300.0  # of the squared distance of new faces from those of the VAE alone, both averaged
ANCHOR_SHRINKS = 2  # to pixels of this side: 64x64 of 128x128
ORDINARY = 4  # faces in each step are drawn nearer to the average face, where no photograph lies,
ORDINARY_REACH = 0.7  # at up to this part of their distance, and held at what the VAE alone draws of them
PENALTY_WEIGHT = 5.0  # of R1 and R2
PENALTY_EVERY = 8  # steps, and so many times as strong
WARMUP = 150  # steps in which the critic looks before the decoder hears it
SHIFT = 0.08  # what it sees is shifted by up to this part of the side,
BRIGHTNESS, CONTRAST, SATURATION = 0.15, 0.25, 0.4  # and recoloured by up to these, either way
CLIP = 50.0  # of its gradient's norm


class Critic(nn.Module):
    """Pictures (n, c, h, w) in [0, 1] -> scores (n,), the higher the more real; n must be a multiple of ``GROUP``.

    It scores the whole and every patch of the last features, and sees how much each group of pictures differs.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.trunk = copy.deepcopy(encoder).requires_grad_(True)
        del self.trunk.summary, self.trunk.mean, self.trunk.log_variance
        with torch.no_grad():
            channels, side = encoder.features(encoder.units.mean_face).shape[1:3]
        self.mix = nn.Conv2d(channels + 1, HEAD, 3, padding=1)
        self.patch = nn.Conv2d(HEAD, 1, 1)
        self.whole = nn.Linear(HEAD * side**2, HEAD)
        self.score = nn.Linear(HEAD, 1)
        for layer in (self.score, self.patch):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk.features(x)
        groups = h.float().unflatten(0, (GROUP, -1))
        spread = groups.var(0, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3)).repeat(GROUP)
        spread = spread[:, None, None, None].expand(-1, 1, *h.shape[2:]).to(h.dtype)
        h = leaky_relu(self.mix(torch.cat([h, spread], 1)))
        patches = self.patch(h).flatten(1)
        whole = self.score(leaky_relu(self.whole(h.flatten(1))))
        return whole.squeeze(1).float() + patches.float().mean(1)


class CriticTrainer(Trainer):
    """Goes on from a trained VAE: its decoder's appearances follow a critic; encoder, shape and sigma rest."""

    betas = (0.0, 0.99)  # of both players: a memory of the gradient makes them circle

    def __init__(self, recipe: Recipe, model: VAE, device: torch.device, rank: int = 0, world: int = 1):
        model.requires_grad_(False)
        for parameter in model.decoder.drawing():
            parameter.requires_grad_(True)
        # Not wrapped for several processes: the gradients' mean is taken by hand, for the critic's, too.
        super().__init__(recipe, model, device, rank)
        self.world = world
        self.calm = copy.deepcopy(model).requires_grad_(False).eval()  # the VAE alone, which the anchor holds to
        self.critic = Critic(model.encoder).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=LEARNING_RATE, betas=self.betas)
        self.flow: Flow = Flow(model.latent_size, 0).requires_grad_(False).to(device)

    def begin(self, dataset: Dataset, codes: Tensor | None = None, flow: Flow | None = None) -> None:
        """Fit the aggregate posterior, which the critic is shown faces of; the encoder rests, so it stays."""
        super().begin(dataset, codes)
        self.flow = fit_prior(self.model, dataset, self.recipe, codes)

    def step(
        self, step: int, done: float, images: Tensor, landmarks: Tensor | None = None, rows: Tensor | None = None
    ) -> Metrics:
        """One step of the decoder and one of the critic. ``critic`` is its loss: 0.69 when it knows nothing, 0 when all."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, max(step - WARMUP, 0), done) if step >= WARMUP else 0.0
        batch, mirror = self.batch(step, images, landmarks)
        x = batch.x
        reconstructed = min(RECONSTRUCTED, len(x))
        with torch.no_grad():
            mean, log_variance = self.model.encode(x[:reconstructed])
            if self.codes and rows is not None:
                stored = self.codes.of(rows[:reconstructed], mirror[:reconstructed])
                mean = torch.where(stored.isnan(), mean, stored)
            near = mean + 0.5 * torch.exp(0.5 * log_variance) * self._normal(mean)
            distance = ORDINARY_REACH * torch.rand(ORDINARY, 1, generator=self.random, device=self.device)
            ordinary = self.flow(distance * self._normal(mean, ORDINARY))
            code = torch.cat([near, ordinary, self.flow(self._normal(mean, len(x)))])
        with self.autocast:
            picture, _ = self.model.decode(code)
        new = picture[-len(x) :]

        self.critic.requires_grad_(False)
        with self.autocast:
            fooling = F.softplus(self.critic(self._disturb(x)).detach() - self.critic(self._disturb(new))).mean()
        with torch.no_grad():
            calm, _ = self.calm.decode(code[reconstructed:])
        away = picture[reconstructed:] - calm
        drift = F.avg_pool2d(away[ORDINARY:], ANCHOR_SHRINKS).square().mean() + away[:ORDINARY].square().mean()
        error = (picture[:reconstructed] - x[:reconstructed]).square().mean()
        loss = self.recipe.critic * fooling + RECONSTRUCTION_WEIGHT * error + ANCHOR_WEIGHT * drift
        metrics = self.descend(loss)

        self.critic.requires_grad_(True)
        new = new.detach()
        penalty = self._penalize(x, new) if step % PENALTY_EVERY == 0 else torch.zeros(())
        with self.autocast:
            scores = self.critic(torch.cat([self._disturb(x), self._disturb(new)]))
        critic_loss = F.softplus(scores[len(x) :] - scores[: len(x)]).mean()
        self._teach(critic_loss)
        return {
            "critic": critic_loss.detach(),
            "fooling": fooling.detach(),
            "penalty": penalty,
            "mse": error.detach(),
            "drift": drift.detach(),
            **metrics,
        }

    def _penalize(self, x: Tensor, new: Tensor) -> Tensor:
        """A step of the critic down R1 and R2: the squared slope at photographs and at new faces, in full precision."""
        total = x.new_zeros(())
        for pictures in (x, new):
            seen = self._disturb(pictures[: max(len(pictures) // 2 // GROUP * GROUP, GROUP)]).requires_grad_()
            (gradient,) = torch.autograd.grad(self.critic(seen).sum(), seen, create_graph=True)
            total = total + (gradient * seen[0].shape[-1] / 256).square().sum((1, 2, 3)).mean()
        self._teach(PENALTY_EVERY * PENALTY_WEIGHT / 2 * total)
        return total.detach()

    def _teach(self, loss: Tensor) -> None:
        """One step of the critic down ``loss``, the mean over the processes; none where the gradient is not finite."""
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in self.critic.parameters() if p.grad is not None]
        if self.world > 1:
            average_gradients(parameters, self.world)
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, CLIP)):
            self.critic_optimizer.step()

    def descend(self, loss: Tensor) -> Metrics:
        """As for a VAE; the gradients' mean over the processes is taken here, for no wrapped forward pass takes it."""
        if self.world == 1:
            return super().descend(loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients([p for p in self.model.parameters() if p.grad is not None], self.world)
        return self.apply()

    def _normal(self, like: Tensor, count: int | None = None) -> Tensor:
        shape = (len(like) if count is None else count, like.shape[1])
        return torch.randn(shape, generator=self.random, device=self.device)

    def _disturb(self, x: Tensor) -> Tensor:
        return diff_augment(x, self.random)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "critic": self.critic.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "calm": self.calm.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.critic.load_state_dict(state["critic"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.calm.load_state_dict(state["calm"])


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Every gradient becomes its mean over the processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def diff_augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (n, c, h, w), each shifted by whole pixels, edges repeated, and recoloured at random; differentiable."""
    n, _, height, width = x.shape

    def uniform(extent: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=generator, device=x.device) * 2 - 1) * extent

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + uniform(SATURATION))
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + (x - middle) * (1 + uniform(CONTRAST)) + uniform(BRIGHTNESS)
    most = round(SHIFT * width)
    shift = torch.randint(-most, most + 1, (n, 2), generator=generator, device=x.device)
    rows = (torch.arange(height, device=x.device) + shift[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) + shift[:, 1:]).clamp(0, width - 1)
    pictures = torch.arange(n, device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[pictures, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
