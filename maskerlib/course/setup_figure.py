"""The training setup as a picture, with what one image really makes of it (what figure 1A of Phang et al., 2020, shows)."""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from maskerlib.masker.trained import Trained
from maskerlib.masking.infills import mean_colour
from maskerlib.masking.masks import area, masked_in, masked_out
from maskerlib.masking.terms import entropy

__all__ = ["OneImage", "follow", "setup_picture"]


@dataclass(frozen=True)
class OneImage:
    """One image on its way through the setup.

    image, seen_in, seen_out: (3, H, W) in [0, 1].  mask: (1, H, W) in [0, 1].
    right, right_in, right_out: probability of the label, for the image, through the mask and without it.
    loss_in: cross-entropy of the masked-in image, in nats.  entropy_out: entropy of the masked-out one, in nats.
    """

    image: Tensor
    mask: Tensor
    seen_in: Tensor
    seen_out: Tensor
    right: float
    right_in: float
    right_out: float
    loss_in: float
    entropy_out: float

    @property
    def area(self) -> float:
        """Share of the image that the mask covers."""
        return float(area(self.mask[None]))


@torch.no_grad()
def follow(trained: Trained, image: Tensor, label: int) -> OneImage:
    """Send an image (3, H, W) in [0, 1] through masker and classifier. Raises ValueError for another shape."""
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image of shape {tuple(image.shape)}: expected (3, H, W)")
    network, images = trained.classifier, image[None]
    mask = trained(images)
    hidden = mean_colour(images, network.mean)
    views = torch.cat([images, masked_in(images, mask, hidden), masked_out(images, mask, hidden)])
    logits = network(views)
    whole, kept, left = logits.softmax(dim=1)[:, label].tolist()
    loss = -float(logits.log_softmax(dim=1)[1, label])
    views, mask = views.cpu(), mask.cpu()
    return OneImage(image.cpu(), mask[0], views[1], views[2], whole, kept, left, loss, float(entropy(logits)[2]))


def setup_picture(trained: Trained, image: Tensor, label: int) -> Figure:
    """The path of one image (3, H, W): classifier, masker, mask, two views, and what the objective makes of them."""
    found = follow(trained, image, label)
    figure = plt.figure(figsize=(10.4, 3.7))
    axes = figure.add_axes((0, 0, 1, 1))
    learns = trained.config.mode == "CA"
    name = trained.classifier.class_name(label)
    _picture(axes, (0.8, 1.85), found.image, f"image: {name}\nprobability {found.right:.2f}")
    _box(axes, (2.6, 1.85), "classifier\n" + ("keeps training" if learns else "frozen"), "#3b6ea8")
    _box(axes, (4.55, 1.85), "masker\nlearns", "#c8702a")
    _picture(axes, (6.25, 1.85), found.mask, "")
    axes.text(
        6.25, 1.25, f"mask: {found.area:.2f} of the image,\nto be small and smooth", fontsize=8, ha="center", va="top"
    )
    judge = "classifier,\nor a past one" if learns else "classifier"
    sides = (
        (2.95, found.seen_in, f"masked-in: {found.right_in:.2f}", f"cross-entropy {found.loss_in:.2f}\nto be small"),
        (0.95, found.seen_out, f"masked-out: {found.right_out:.2f}", f"entropy {found.entropy_out:.2f}\nto be large"),
    )
    for y, seen, text, goal in sides:
        _picture(axes, (8.05, y), seen, text)
        _box(axes, (9.65, y), judge, "#3b6ea8", width=1.1)
        axes.text(9.65, y - 0.42, goal, fontsize=8, ha="center", va="top")
        _arrow(axes, (6.85, 1.85 + (0.25 if y > 2 else -0.25)), (7.45, y))
        _arrow(axes, (8.62, y), (9.02, y))
    _arrow(axes, (1.38, 1.85), (1.92, 1.85))
    _arrow(axes, (3.28, 1.85), (3.87, 1.85), dashed=True)
    _arrow(axes, (5.23, 1.85), (5.67, 1.85))
    axes.text(3.58, 1.38, "activations,\ndetached", fontsize=8, ha="center", va="top")
    axes.set(xlim=(0, 10.4), ylim=(0, 3.7), aspect="equal")
    axes.set_axis_off()
    plt.close(figure)
    return figure


def _picture(axes: Axes, centre: tuple[float, float], picture: Tensor, text: str, side: float = 1.05) -> None:
    x, y = centre
    style: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": 1} if picture.shape[0] == 1 else {}
    shown = picture.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
    axes.imshow(shown, extent=(x - side / 2, x + side / 2, y - side / 2, y + side / 2), zorder=2, **style)
    axes.text(x, y - side / 2 - 0.06, text, fontsize=8, ha="center", va="top")


def _box(axes: Axes, centre: tuple[float, float], text: str, colour: str, width: float = 1.2) -> None:
    x, y = centre
    corner = (x - width / 2, y - 0.3)
    axes.add_patch(FancyBboxPatch(corner, width, 0.6, boxstyle="round,pad=0.05", facecolor="white", edgecolor=colour))
    axes.text(x, y, text, fontsize=8, ha="center", va="center")


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float], *, dashed: bool = False) -> None:
    kind: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2}
    style = (0, (3, 2)) if dashed else "solid"
    axes.add_patch(FancyArrowPatch(begin, end, color="#555555", linestyle=style, **kind))
