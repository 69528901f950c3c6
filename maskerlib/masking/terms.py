"""What is asked of the prediction on a masked image: every term of the study's objectives, one function each.

Each takes the logits (B, C) of the masked image, the labels y (B,) and c0 (B,), 1 where the clean image is classified as y,
and gives a loss (B,) in nats. p = softmax(logits), CE = cross-entropy with y, Ent = entropy of p, u = the uniform class prior.

That only images count which are right when clean, c0, comes from CASM (Zolna, Geras and Cho, 2020), as its masked-out
entropy does; masked-in terms and the priors are the study's (Phang et al., 2020). Terms of others have tables of their own.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

__all__ = ["CROSS_ENTROPY_SIGN", "DELETION_OUT", "MASKED_IN", "MASKED_OUT", "RELEASED_IN", "Term", "entropy", "log_odds"]

Term = Callable[[Tensor, Tensor, Tensor], Tensor]


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats: (B, C) -> (B,), between 0 and log C.

    >>> import torch
    >>> entropy(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
    tensor([0.6931, 0.0012])
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log p_y - log(1 - p_y) of softmax(logits): (B, C) -> (B,), without a bound where the class is certain or ruled out.

    >>> import torch
    >>> log_odds(torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
    tensor([2.])
    """
    chosen = labels[:, None]
    return logits.gather(1, chosen)[:, 0] - logits.scatter(1, chosen, -math.inf).logsumexp(dim=1)


def max_class(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """MaxClass: CE with the label, (B,). Low when the class is still recognised."""
    return F.cross_entropy(logits, labels, reduction="none")


def min_entropy(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """MinEnt: the entropy of the prediction, (B,). Low when the classifier is sure, of whatever class."""
    return entropy(logits)


def min_entropy_c0(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """MinEnt as the release computes it: c0 Ent, (B,). Only images that are right when clean (c0 = 1) count."""
    return clean_correct * entropy(logits)


def min_class(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """MinClass: -CE with the label, (B,). Low, without a bound, when the class is ruled out."""
    return -F.cross_entropy(logits, labels, reduction="none")


def max_entropy(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """MaxEnt: -c0 Ent, (B,), in [-log C, 0]. Low when nothing is left to decide by.

    Only images that are right when clean (c0 = 1) count.
    """
    return -clean_correct * entropy(logits)


def forward_kl(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """c0 KL(u || p) to the uniform class prior u, (B,), 0 or more. Punishes any class that is ruled out."""
    return clean_correct * (-logits.log_softmax(dim=1).mean(dim=1) - math.log(logits.shape[1]))


def min_probability(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """The probability of the class itself, p_y, (B,), in [0, 1]: what is deleted once it is small gains nothing more."""
    return logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]


def backward_kl(logits: Tensor, labels: Tensor, clean_correct: Tensor) -> Tensor:
    """c0 KL(p || u) to the uniform class prior u, (B,), in [0, log C]: MaxEnt with its minimum moved to 0.

    >>> import torch
    >>> unsure, sure, labels, right = torch.zeros(1, 2), torch.tensor([[99.0, 0.0]]), torch.tensor([0]), torch.ones(1)
    >>> [round(backward_kl(logits, labels, right).item(), 3) for logits in (unsure, sure)]
    [0.0, 0.693]
    """
    return clean_correct * (math.log(logits.shape[1]) - entropy(logits))


MASKED_IN: dict[str, Term] = {"max_class": max_class, "min_ent": min_entropy}

RELEASED_IN: dict[str, Term] = {"min_ent_c0": min_entropy_c0}
"""Masked-in terms as the code release has them, where it differs from the study's formula."""

MASKED_OUT: dict[str, Term] = {
    "min_class": min_class,
    "max_ent": max_entropy,
    "forward_kl": forward_kl,
    "backward_kl": backward_kl,
}

DELETION_OUT: dict[str, Term] = {"min_prob": min_probability}
"""Masked-out terms of the deletion game (Fong and Vedaldi, 2017), which is no objective of the study."""

CROSS_ENTROPY_SIGN: dict[Term, float] = {max_class: 1.0, min_class: -1.0}
"""Terms that are the cross-entropy up to a sign: a classifier that trains on it gets its gradient in the same pass."""
