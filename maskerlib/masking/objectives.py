"""What a mask should do: every objective of the study, and the one function that adds up its terms (`maskerlib.masking.terms`).

Notation (Phang et al., 2021, section 3): p = softmax(F(.)), CE = cross-entropy with the label y, Ent = entropy of p,
a = mean of the mask m, and three brackets that carry no gradient: c0 = [argmax F(x) = y], c_in = [argmax F(masked-in) = y],
c_out = [argmax F(masked-out) != y]. Per image, equation 1 minimises over m

    w_in * L_in(F(m x), y) - lambda_in * relu(c_in - a)                    the masked-in side
    + w_out * L_out(F((1 - m) x), y) - lambda_out * relu(c0 c_out - a)     the masked-out side
    + lambda_tv * TV(m) / 2 + lambda_a * a + lambda_p * |a - p|^q          smoothness; size; a size asked for

The reward of a small mask only while the masked image is classified as it should be, and c0, are CASM's (Zolna, Geras and
Cho, 2020), which the study builds on; the masked-in side is the study's. A price of the area whatever is recognised, lambda_a,
is that of Fong and Vedaldi (2017). The last term belongs to the size-conditioned masker, which is told the area p that its mask
should have (section 5).
Equation 2 is the mean over a batch, with m = M(x). Both go through `evaluate_objective` here: where the mask comes from
is no concern of the objective.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.masking import masks
from maskerlib.masking.infills import Filling, fill
from maskerlib.masking.terms import CROSS_ENTROPY_SIGN, DELETION_OUT, MASKED_IN, MASKED_OUT, RELEASED_IN, Term
from maskerlib.running.checks import above, check_fields, one_of

__all__ = ["Objective", "Side", "evaluate_objective", "objective_backward"]

Hidden = Filling | Mapping[str, Filling]
"""What stands where the image is hidden, for both sides of the objective or for each by its name."""


@dataclass(frozen=True)
class Side:
    """One side of the objective: how the image is shown, what is asked of the prediction, when a small mask is rewarded."""

    name: str
    view: Callable[[Tensor, Tensor, Tensor], Tensor]
    term: Term
    weight: float
    size: float

    def hole(self, mask: Tensor) -> Tensor:
        """Where this side hides the image: 1 - m masked-in, m masked-out."""
        return 1 - mask if self.name == "in" else mask

    def show(self, images: Tensor, mask: Tensor, hidden: Hidden) -> Tensor:
        """The images as this side shows them, (B, channels, H, W); `hidden` as in `evaluate_objective`."""
        filling = hidden[self.name] if isinstance(hidden, Mapping) else hidden
        return self.view(images, mask, fill(filling, self.hole(mask)))

    def terms(self, logits: Tensor, labels: Tensor, measured: Tensor, clean_correct: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted term of the prediction and the size term, each (B,), of masks with the areas `measured`, (B,)."""
        right = (logits.argmax(dim=1) == labels).to(measured)
        earned = right if self.name == "in" else clean_correct * (1 - right)
        return self.weight * self.term(logits, labels, clean_correct), -self.size * (earned - measured).relu()


@dataclass(frozen=True)
class Objective:
    """The choice of objective: names of the terms, their weights, and the three regularisers.

    The defaults are the study's final model (MaxClass (I) + MaxEnt (O)) for FIX; CA takes `size_out` 15.

    Args:
        masked_in: "max_class", "min_ent" (or "min_ent_c0", as the release computes it) or None for no masked-in side.
        masked_out: "max_ent", "min_class", "forward_kl", "backward_kl" (or "min_prob", the probability itself, as in the
            deletion game) or None for no masked-out side.
        weight_in, weight_out: w_in and w_out.
        size_in, size_out: lambda_in and lambda_out; each acts only together with its side.
        size: lambda_a, which acts with either side and always.
        tv: lambda_tv. The release adds 0.001 once a side, which is 0.002 here.
        tv_power, tv_border: `power` and `border` of `maskerlib.masking.masks.total_variation`.
        budget: lambda_p, above 0 only for masks that are asked for an area p.
        budget_power: q, 1 for the distance or 2 for its square.

    `Objective.released` takes the numbers of the code release, which weighs a side as a whole.

    Raises ValueError for an unknown name, no side at all, or a weight that is no finite number of 0 or more.
    """

    masked_in: str | None = "max_class"
    masked_out: str | None = "max_ent"
    weight_in: float = 1.0
    weight_out: float = 1.0
    size_in: float = 1.0
    size_out: float = 10.0
    size: float = 0.0
    tv: float = 0.002
    tv_power: float = 2.0
    tv_border: float = 0.3
    budget: float = 0.0
    budget_power: int = 1

    def __post_init__(self) -> None:
        weight = above(0, included=True)
        check_fields(
            self,
            masked_in=one_of((*MASKED_IN, *RELEASED_IN, None)),
            masked_out=one_of((*MASKED_OUT, *DELETION_OUT, None)),
            budget_power=one_of((1, 2)),
            tv_power=above(1, included=True),
            **dict.fromkeys(("weight_in", "weight_out", "size_in", "size_out", "size", "tv", "tv_border", "budget"), weight),
        )
        if self.masked_in is None and self.masked_out is None:
            raise ValueError("an objective needs masked_in, masked_out or both; both are None")

    @classmethod
    def released(
        cls,
        masked_in: str | None = "max_class",
        masked_out: str | None = "max_ent",
        *,
        weight_in: float = 1.0,
        weight_out: float = 1.0,
        size_in: float = 1.0,
        size_out: float = 10.0,
        tv_in: float = 0.001,
        tv_out: float = 0.001,
    ) -> Self:
        """The objective that the code release minimises for these numbers of its own configuration files.

        There a side's weight multiplies all that the side contributes: its term, its size and a total variation of its own.
        Here each has its weight: lambda_in becomes w_in x lambda_in, lambda_out w_out x lambda_out, and the total variation
        w_in x tv_in + w_out x tv_out. A side with a KL has none there. "min_ent" becomes "min_ent_c0".

        Args:
            masked_in, masked_out: as in `Objective`.
            weight_in, weight_out: its mask_in_weight and mask_out_weight.
            size_in, size_out: its mask_in_lambda_r and mask_out_lambda_r; 10 for FIX and 15 for CA.
            tv_in, tv_out: its mask_in_lambda_tv and mask_out_lambda_tv, both lambda_tv where that is given.

        In CA the same weights multiply, there, the cross-entropy from which the classifier learns on each view; here it has
        weight 1 on both. The release's two configurations have the weights 1, where all of this is equal.
        """
        share_in = 0.0 if masked_in is None else weight_in * tv_in
        share_out = 0.0 if masked_out in (None, "forward_kl", "backward_kl") else weight_out * tv_out
        return cls(
            "min_ent_c0" if masked_in == "min_ent" else masked_in,
            masked_out,
            weight_in=weight_in,
            weight_out=weight_out,
            size_in=weight_in * size_in,
            size_out=weight_out * size_out,
            tv=share_in + share_out,
        )

    def sides(self) -> Iterator[Side]:
        """The masked-in and the masked-out side, as far as the objective has them.

        >>> [side.name for side in Objective(masked_in=None).sides()]
        ['out']
        """
        if self.masked_in is not None:
            term = (MASKED_IN | RELEASED_IN)[self.masked_in]
            yield Side("in", masks.masked_in, term, self.weight_in, self.size_in)
        if self.masked_out is not None:
            term = (MASKED_OUT | DELETION_OUT)[self.masked_out]
            yield Side("out", masks.masked_out, term, self.weight_out, self.size_out)

    def shape_terms(self, mask: Tensor, areas: Tensor | None) -> dict[str, Tensor]:
        """What concerns the mask alone: "tv", and "size" and "budget" where the objective has them; each (B,).

        Raises ValueError when it has one and `areas` (B,), the area asked of each mask, is None.
        """
        roughness = masks.total_variation(mask, power=self.tv_power, border=self.tv_border)
        terms = {"tv": self.tv * roughness / 2}
        if self.size > 0:
            terms["size"] = self.size * masks.area(mask)
        if self.budget > 0:
            if areas is None:
                raise ValueError(f"budget={self.budget}: the objective asks each mask for an area; give areas, (B,)")
            terms["budget"] = self.budget * (masks.area(mask) - areas).abs() ** self.budget_power
        return terms


def evaluate_objective(
    objective: Objective,
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    mask: Tensor,
    labels: Tensor,
    clean_correct: Tensor,
    hidden: Hidden,
    *,
    areas: Tensor | None = None,
) -> dict[str, Tensor]:
    """Equation 1, term by term: a dict of per-image losses (B,) whose sum is the objective.

    Args:
        objective: which terms, and their weights.
        classify: images (B, channels, H, W) -> logits (B, C); the classifier, or a member of its pool.
        images: (B, channels, H, W) in [0, 1].
        mask: (B, 1, H, W) in [0, 1].
        labels: (B,) int64, y.
        clean_correct: (B,) float, c0: 1 where the clean image is classified as y.
        hidden: what stands where the image is hidden: (B, channels, H, W) or (1, channels, 1, 1), or what an infill returns
            (`maskerlib.masking.infills`); or one of them for each side, {"in": ..., "out": ...}.
        areas: (B,) in [0, 1], p, the area that each mask is asked for; only where the objective has a budget.

    Returns the keys "in", "size_in" (with a masked-in side), "out", "size_out" (with a masked-out side), "tv" and, where it
    has them, "size" and "budget". Raises ValueError for a mask or labels of another shape, or a budget without areas.

    A red image, a classifier that looks for the colour, and a mask that keeps everything:

    >>> red, black = torch.eye(3)[:1, :, None, None].repeat(1, 1, 2, 2), torch.zeros(1, 3, 1, 1)
    >>> given = red, torch.ones(1, 1, 2, 2), torch.tensor([0]), torch.ones(1), black
    >>> terms = evaluate_objective(Objective(tv=0), lambda views: 9 * views.mean(dim=(2, 3)), *given)
    >>> {name: round(term.item(), 2) + 0.0 for name, term in terms.items()}
    {'in': 0.0, 'size_in': 0.0, 'out': -1.1, 'size_out': 0.0, 'tv': 0.0}
    """
    _check_shapes(images, mask, labels)
    terms: dict[str, Tensor] = {}
    for side in objective.sides():
        logits = classify(side.show(images, mask, hidden))
        terms[side.name], terms[f"size_{side.name}"] = side.terms(logits, labels, masks.area(mask), clean_correct)
    return terms | objective.shape_terms(mask, areas)


def objective_backward(
    objective: Objective,
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    mask: Tensor,
    labels: Tensor,
    clean_correct: Tensor,
    hidden: Hidden,
    *,
    areas: Tensor | None = None,
    train: Sequence[Tensor] | None = None,
    share: float = 1.0,
) -> dict[str, Tensor]:
    """Back-propagate the batch mean of `evaluate_objective` into whatever drew `mask`, one side at a time.

    The gradient is that of the plain sum; but each side's graph is freed before the next is built, so that the memory is
    that of one pass through the classifier. Arguments and result are those of `evaluate_objective`, the result detached.

    `train` lists weights of the classifier that learn beside the mask (CA): the mean cross-entropy of each masked view is
    back-propagated into their `.grad`, with the mask held constant. Nothing else of the classifier receives a gradient.

    `share` is the part of a batch that these images are: every gradient is multiplied by it, so that those of all parts add up
    to the gradient of the batch mean.
    """
    _check_shapes(images, mask, labels)
    leaf = mask.detach().requires_grad_()
    total = torch.zeros_like(leaf)
    terms: dict[str, Tensor] = {}
    for side in objective.sides():
        logits = classify(side.show(images, leaf, hidden))
        term, size = side.terms(logits, labels, masks.area(leaf), clean_correct)
        if train is None:
            total += torch.autograd.grad((term + size).mean(), leaf)[0]
        else:
            cross_entropy = F.cross_entropy(logits, labels)
            sign = CROSS_ENTROPY_SIGN.get(side.term)
            if sign is not None:
                from_network, *from_weights = torch.autograd.grad(cross_entropy, [leaf, *train], allow_unused=True)
                from_network = side.weight * sign * from_network
            else:
                from_network = torch.autograd.grad(term.mean(), leaf, retain_graph=True)[0]
                from_weights = list(torch.autograd.grad(cross_entropy, list(train), allow_unused=True))
            total += from_network + torch.autograd.grad(size.mean(), leaf)[0]
            _accumulate(train, from_weights, share)
        terms[side.name], terms[f"size_{side.name}"] = term.detach(), size.detach()
    shape = objective.shape_terms(leaf, areas)
    total += torch.autograd.grad([term.mean() for term in shape.values()], leaf)[0]
    terms |= {name: term.detach() for name, term in shape.items()}
    torch.autograd.backward(mask, total * share)
    return terms


def _check_shapes(images: Tensor, mask: Tensor, labels: Tensor) -> None:
    expected = (len(images), 1, *images.shape[-2:])
    if tuple(mask.shape) != expected:
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}, expected {expected} for images {tuple(images.shape)}"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, expected ({len(images)},): one an image")


def _accumulate(weights: Sequence[Tensor], gradients: Sequence[Tensor | None], share: float) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is None:  # a weight that the forward pass does not use, such as an auxiliary head's
            continue
        if weight.grad is None:
            weight.grad = gradient * share
        else:
            weight.grad += gradient * share
