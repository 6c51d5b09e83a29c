"""How good a bundle is, measured on pictures that its training held out. Needs no PyTorch: a bundle is what is shipped.

The model that is measured is the bundle's own: u ~ N(0, I), x ~ N(decoder(u), sigma^2 I), and as approximate posterior
q(u|x) = N(mean, diag(std^2)), what the encoder answers. All bounds are valid for it. They differ from those logged while
training: there the prior is N(0, I) in raw coordinates, which the aggregate posterior does not fill, and q(raw|x) is
diagonal where q(u|x), turned, is not.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .dataset import Dataset, spread
from .errors import UserError
from .landmarks import OUTLINE, usable
from .metrics import NEIGHBOURS, Describer, frechet, frechet_error, precision_recall
from .model import Model
from .render import to_image, to_uint8

LOG_2_PI = math.log(2 * math.pi)
FITTED = 512  # training pictures that sigma and the number of active units are estimated from
ACTIVE = 0.01  # Burda et al. (2016), arXiv:1509.00519: a unit is active when Cov_x(E[u|x]) exceeds this
PCA_PICTURES = 4000  # training pictures the eigenfaces are computed from, at most

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is measured on how much. Raises ``UserError`` naming the value and what is allowed."""

    samples: int = 600  # faces a set whose descriptions are compared
    pictures: int = 256  # held-out pictures the importance-weighted bound is computed on; it is the slowest figure
    k: int = 32  # importance samples a picture
    seed: int = 0
    faces: bool = True  # whether faces are described, which needs the extra [metrics]
    inception: bool = False  # whether the Frechet Inception distance is computed, which downloads a network
    eigenfaces: bool = True  # whether PCA with as many components is measured beside the bundle

    def __post_init__(self) -> None:
        for key, least in (("samples", 8), ("pictures", 2), ("k", 1), ("seed", 0)):
            if getattr(self, key) < least:
                raise UserError(f"{key} = {getattr(self, key)}: must be {least} or more")


def evaluate(model: Model, dataset: Dataset, settings: Settings, say: Say = lambda _: None) -> dict[str, Any]:
    """All figures, by name; ``reference`` has those of real pictures and of eigenfaces. ``say`` hears what is under way.

    ``NAME_error`` is the standard error of a figure. A bundle without an encoder has its samples measured, nothing else.
    Where the data set has landmarks, ``psnr_inside`` is that inside the face, and ``frontal`` has the figures measured
    against those held-out pictures that a model with shape would be trained on.

    Raises ``UserError`` when the pictures do not fit the model or none are held out.
    """
    if dataset.image_shape != model.image_shape:
        raise UserError(
            f"{dataset.folder} has pictures of shape {dataset.image_shape}, {model.name} needs {model.image_shape}: "
            f"prepare them with --size {model.image_shape[0]}{' --grey' if model.image_shape[2] == 1 else ''}"
        )
    held_out, train = dataset.validation, dataset.training
    if len(held_out) < 8 or len(train) < 8:
        raise UserError(f"{dataset.folder} holds out {len(held_out)} pictures of {len(dataset.images)}: give it more")
    describer = Describer() if settings.faces else None  # what is missing is said before minutes of work, not after
    figures: dict[str, Any] = {"pictures": len(held_out), "seed": settings.seed}
    inside, frontal = None, held_out[:0]
    if dataset.landmarks is not None:
        inside = inside_face(dataset.landmarks, dataset.image_shape)
        frontal = held_out[usable(dataset.landmarks[held_out])]
        figures["frontal"] = {"pictures": len(frontal)}

    def reconstruct(pictures: np.ndarray) -> np.ndarray:
        return model.decode(model.encode(pictures).mean)

    if model.has_encoder:
        say("bounds")
        figures |= bounds(model, dataset, settings)
        say("reconstructions")
        figures |= reconstruction(dataset, held_out, reconstruct, inside)
        if len(frontal) > 1:
            figures["frontal"] |= reconstruction(dataset, frontal, reconstruct, inside)
    reference: dict[str, Any] = {}
    pca = None
    if settings.eigenfaces:
        say("eigenfaces")
        pca = Eigenfaces(dataset, model.latent_size)
        reference["eigenfaces"] = reconstruction(dataset, held_out, pca.reconstruct, inside)
    if describer:
        say("faces of the prior")
        rng = np.random.default_rng(settings.seed)
        real = dataset.images[spread(held_out, settings.samples)]
        seen = describer.describe(real)

        def compared(real: np.ndarray, own: np.ndarray) -> dict[str, float]:
            precision, recall = precision_recall(real, own)
            return {
                "frechet": frechet(real, own),
                "frechet_error": frechet_error(real, own),
                "precision": precision,
                "precision_error": _fraction_error(precision, len(own)),
                "recall": recall,
                "recall_error": _fraction_error(recall, len(real)),
            }

        def measured(pictures: np.ndarray) -> dict[str, float]:
            return {
                **compared(seen, describer.describe(pictures)),
                "face_found": (found := describer.found(pictures)),
                "face_found_error": _fraction_error(found, len(pictures)),
            }

        figures["samples"] = settings.samples
        made = to_uint8(model.decode(model.sample(settings.samples, settings.seed)))
        figures |= measured(made)
        if len(frontal) > NEIGHBOURS:
            chosen = dataset.images[spread(frontal, settings.samples)]
            figures["frontal"] |= compared(describer.describe(chosen), describer.describe(made))
        if settings.inception:
            say("Inception")
            figures["inception_frechet"] = inception_frechet(real, made)
        chosen = np.sort(rng.choice(train, min(settings.samples, len(train)), replace=False))
        if model.has_encoder:
            say("faces of the aggregate posterior")
            mean, std = codes(model, dataset, chosen)
            drawn = mean + std * rng.standard_normal(mean.shape, np.float32)
            figures["aggregate"] = measured(to_uint8(model.decode(drawn)))
        say("real faces")
        reference["real"] = measured(dataset.images[chosen])
        if pca:
            say("eigenfaces")
            reference["eigenfaces"] |= measured(to_uint8(pca.sample(settings.samples, rng)))
    figures["reference"] = reference
    return rounded(figures)


def codes(model: Model, dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and standard deviations of the pictures of ``rows``, each (n, latent_size)."""
    parts = [model.encode(dataset.images[part]) for part in _parts(rows)]
    return np.concatenate([part.mean for part in parts]), np.concatenate([part.std for part in parts])


def bounds(model: Model, dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """ELBO, importance-weighted bound, KL per dimension, active units, and the aggregate posterior against the prior."""
    rng = np.random.default_rng(settings.seed)
    rows, train = dataset.validation, spread(dataset.training, FITTED)
    count = math.prod(model.image_shape)

    def squared_error(part: np.ndarray, u: np.ndarray) -> np.ndarray:
        x = dataset.images[part] / np.float32(255)
        return np.square(model.decode(u) - x).reshape(len(part), -1).sum(1, dtype=np.float64)

    def drawn_errors(of: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        parts = [slice(first, first + 64) for first in range(0, len(of), 64)]
        noise = (rng.standard_normal(mean[part].shape, np.float32) for part in parts)
        errors = [squared_error(of[p], mean[p] + std[p] * n) for p, n in zip(parts, noise, strict=True)]
        return np.concatenate(errors)

    # sigma: the maximum-likelihood value on training pictures, as a shared sigma ends up in training.
    sigma = math.sqrt(float(drawn_errors(train, *codes(model, dataset, train)).mean()) / count)

    def log_likelihood(error: np.ndarray) -> np.ndarray:
        return -0.5 * (error / sigma**2 + count * (2 * math.log(sigma) + LOG_2_PI))

    mean, std = codes(model, dataset, rows)
    kl = 0.5 * (np.square(mean) + np.square(std) - 1 - 2 * np.log(std))
    elbo = log_likelihood(drawn_errors(rows, mean, std)) - kl.sum(1, dtype=np.float64)

    # log 1/k sum p(x|u) p(u) / q(u|x), u ~ q: Burda et al. (2016), arXiv:1509.00519; the bound tightens with k.
    chosen = spread(np.arange(len(rows)), settings.pictures)
    weights = np.empty((len(chosen), settings.k))
    for column in range(settings.k):
        for first in range(0, len(chosen), 64):
            part = chosen[first : first + 64]
            noise = rng.standard_normal(mean[part].shape, np.float32)
            u = mean[part] + std[part] * noise
            log_ratio = 0.5 * (np.square(noise) - np.square(u)).sum(1, dtype=np.float64) + np.log(std[part]).sum(1)
            weights[first : first + 64, column] = log_likelihood(squared_error(rows[part], u)) + log_ratio
    top = weights.max(1, keepdims=True)
    iwae = top[:, 0] + np.log(np.exp(weights - top).mean(1))

    # The aggregate posterior of held-out pictures: moments of a mixture, Cov(means) + E[variances].
    covariance = np.cov(mean, rowvar=False).astype(np.float64) + np.diag(np.square(std).mean(0).astype(np.float64))
    centre = mean.mean(0, dtype=np.float64)
    _, log_determinant = np.linalg.slogdet(covariance)
    gap = 0.5 * (np.trace(covariance) + centre @ centre - len(centre) - log_determinant)

    def per_dimension(nats: float) -> float:
        return -nats / count / math.log(2) + 8  # pixel values in 0 to 255; a density, sigma being far above one step

    return {
        "sigma": sigma,
        "elbo": float(elbo.mean()),
        "elbo_error": _standard_error(elbo),
        "elbo_bits_per_dimension": per_dimension(float(elbo.mean())),
        "elbo_bits_per_dimension_error": _standard_error(elbo) / count / math.log(2),
        "iwae": float(iwae.mean()),
        "iwae_error": _standard_error(iwae),
        "iwae_bits_per_dimension": per_dimension(float(iwae.mean())),
        "iwae_bits_per_dimension_error": _standard_error(iwae) / count / math.log(2),
        "iwae_k": settings.k,
        "iwae_pictures": len(chosen),
        "kl": float(kl.sum(1).mean()),
        "kl_per_dimension": [float(value) for value in kl.mean(0)],
        "active_units": int((mean.var(0) > ACTIVE).sum()),
        "aggregate_gap": float(gap),
    }


def inside_face(landmarks: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Which pixels lie inside the mean face, within its jaw and brows: (height, width) bool."""
    height, width, _ = image_shape
    mean = landmarks[np.isfinite(landmarks).all((1, 2))].mean(0) if len(landmarks) else landmarks
    mask = Image.new("1", (width, height))
    if np.isfinite(mean).all():
        ImageDraw.Draw(mask).polygon([tuple(point) for point in mean[OUTLINE].tolist()], fill=1)
    return np.asarray(mask)


def reconstruction(
    dataset: Dataset,
    rows: np.ndarray,
    make: Callable[[np.ndarray], np.ndarray],
    inside: np.ndarray | None = None,
) -> dict[str, float]:
    """PSNR in dB of the mean squared error over all pictures of ``rows``, and mean SSIM (Wang et al., 2004).

    ``make`` turns uint8 pictures (n, height, width, channels) into their reconstructions, float in [0, 1]. With
    ``inside``, (height, width) bool, also the PSNR of those pixels alone. SSIM needs scikit-image: without it, it is left
    out.
    """
    similarity: Any = None
    with contextlib.suppress(ImportError):
        from skimage.metrics import structural_similarity as similarity
    errors, errors_inside, similarities = [], [], []
    with_inside = inside is not None and bool(inside.any())
    side = min(dataset.image_shape[:2])
    window = min(7, side - 1 + side % 2)  # 7 is the library's default
    for part in _parts(rows):
        pictures = dataset.images[part]
        for x, y in zip(pictures / np.float32(255), make(pictures), strict=True):
            errors.append(float(np.square(x - y).mean()))
            if with_inside:
                errors_inside.append(float(np.square(x - y)[inside].mean()))
            if similarity:
                similarities.append(similarity(x, y, data_range=1.0, channel_axis=2, win_size=window))
    figures: dict[str, float] = {}
    for key, values in (("psnr", errors), ("psnr_inside", errors_inside)):
        if values:
            mean = max(float(np.mean(values)), 1e-12)
            # The error of a logarithm is relative.
            decibels = 10 / math.log(10) / mean * _standard_error(np.array(values))
            figures |= {key: -10 * math.log10(mean), f"{key}_error": decibels}
    if similarity:
        figures |= {"ssim": float(np.mean(similarities)), "ssim_error": _standard_error(np.array(similarities))}
    return figures


def inception_frechet(real: np.ndarray, made: np.ndarray) -> float:
    """Frechet Inception distance of two sets of uint8 pictures, by torch-fidelity, which downloads the network.

    Raises ``UserError`` with the remedy when the library or the network's weights cannot be had.
    """
    try:
        import torch_fidelity
    except ImportError:
        raise UserError(
            "torch-fidelity is not installed: pip install 'morphing-faces[inception]', or leave out --inception"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        for name, pictures in (("real", real), ("made", made)):
            (Path(folder) / name).mkdir()
            for number, picture in enumerate(pictures):
                to_image(picture).convert("RGB").save(Path(folder) / name / f"{number:05}.png")
        try:
            found = torch_fidelity.calculate_metrics(
                input1=f"{folder}/made", input2=f"{folder}/real", fid=True, cuda=False, verbose=False
            )
        except OSError as error:
            raise UserError(f"the Inception network cannot be downloaded ({error}): leave out --inception") from None
    return float(found["frechet_inception_distance"])


class Eigenfaces:
    """PCA with as many components as the model has latent dimensions: what a linear model does (Turk and Pentland, 1991)."""

    def __init__(self, dataset: Dataset, components: int, seed: int = 0):
        from sklearn.decomposition import PCA

        rows = spread(dataset.training, PCA_PICTURES)
        self.image_shape = dataset.image_shape
        self.components = min(components, len(rows) - 1)
        self._pca = PCA(self.components, svd_solver="randomized", random_state=seed)
        self._pca.fit(dataset.images[rows].reshape(len(rows), -1).astype(np.float32) / 255)

    def reconstruct(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, channels) -> their projections, float32 in [0, 1]."""
        flat = pictures.reshape(len(pictures), -1).astype(np.float32) / 255
        flat = self._pca.inverse_transform(self._pca.transform(flat))
        return flat.clip(0, 1).astype(np.float32).reshape(-1, *self.image_shape)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Pictures of Gaussian coefficients with the components' variances: float32 (n, ...) in [0, 1]."""
        scores = rng.standard_normal((n, self.components)) * np.sqrt(self._pca.explained_variance_)
        flat = self._pca.inverse_transform(scores.astype(np.float32))
        return flat.clip(0, 1).astype(np.float32).reshape(-1, *self.image_shape)


ROWS = (
    ("frechet", "Frechet distance of face descriptions, times 1000", ".1f"),
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
    ("face_found", "a face is found in", ".1%"),
    ("inception_frechet", "Frechet Inception distance", ".1f"),
    ("psnr", "reconstruction PSNR (dB)", ".2f"),
    ("psnr_inside", "reconstruction PSNR inside the face (dB)", ".2f"),
    ("ssim", "reconstruction SSIM", ".3f"),
)


def table(name: str, figures: Any) -> str:
    """The figures of :func:`evaluate` as lines of text. Raises ``UserError`` when they are no such figures."""
    try:
        return _table(name, figures)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{name}: the figures of its evaluation are not what evaluate writes: measure it again"
        ) from None


def _table(name: str, figures: Any) -> str:
    columns = {
        name: figures,
        "frontal": figures.get("frontal", {}),
        "aggregate": figures.get("aggregate", {}),
        "eigenfaces": figures["reference"].get("eigenfaces", {}),
        "real": figures["reference"].get("real", {}),
    }
    columns = {title: column for title, column in columns.items() if column}
    lines = [f"{'':<50}" + "".join(f"{title[:12]:>13}" for title in columns)]
    for key, label, form in ROWS:
        if any(key in column for column in columns.values()):
            cells = (format(column[key], form) if key in column else "" for column in columns.values())
            lines.append(f"{label:<50}" + "".join(f"{cell:>13}" for cell in cells))
    if "frontal" in figures:
        lines.append(
            "frontal: measured against those held-out pictures in which a face is found that is not turned far"
        )
    if "aggregate" in figures:
        lines.append("aggregate: latents of training pictures' posteriors in place of the prior's")
    if "elbo" not in figures:
        return "\n".join([*lines, "no encoder: no bounds and no reconstructions"])
    lines.append("")
    for key, label in (("elbo", "ELBO"), ("iwae", f"IWAE, k = {figures['iwae_k']}")):
        bits, error = figures[f"{key}_bits_per_dimension"], figures[f"{key}_bits_per_dimension_error"]
        lines.append(
            f"{label}: {figures[key]:.1f} ± {figures[f'{key}_error']:.1f} nats, {bits:.4f} ± {error:.4f} bits/dim"
        )
    lines.append(
        f"KL: {figures['kl']:.1f} nats; active units: {figures['active_units']}; sigma: {figures['sigma']:.4f}"
    )
    lines.append(f"aggregate posterior from the prior, as Gaussians: {figures['aggregate_gap']:.2f} nats")
    return "\n".join(lines)


def rounded(figures: Any) -> Any:
    """Figures with five significant digits, which is more than any of them is known to."""
    if isinstance(figures, dict):
        return {key: rounded(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return float(f"{figures:.5g}") if isinstance(figures, float) else figures


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _fraction_error(fraction: float, count: int) -> float:
    return math.sqrt(fraction * (1 - fraction) / count)


def _parts(rows: np.ndarray, size: int = 256) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
