# %% [markdown]
# Solutions · 06 · Fixed or classifier-agnostic: whose saliency is it?

One way through each exercise of [the notebook](../06_fixed_or_classifier_agnostic.ipynb), with the reasoning. Try them yourself first: the
hints of `grade` are there for that.
# %% [parameters]
level = "default"  # of the scenes; not needed here
profile = ""  # "default", "smoke", or "" for what MASKERLIB_PROFILE says
seed = 0
device = ""  # "cpu", "cuda", "mps", or "" for the best there is
# %%
%config InlineBackend.figure_formats = ["jpeg"]
from maskerlib.course.session import open_session

session = open_session("06_fixed_or_classifier_agnostic_solutions", profile, device, default={}, smoke={})
# %%
import math

import torch
from torch.nn import functional as F

from maskerlib.course.grading import grade
from maskerlib.masks import masked_in, masked_out
# %% [markdown]
**Exercise 6.1** How many members does the pool hold after `steps` steps?

The steps are numbered from 0 to `steps - 1`, and those that `every` divides have left a snapshot: 0, `every`, 2 `every`, ... There are
`steps / every` of them, rounded *up*, since the first is taken at once. A full pool replaces a member and does not grow.
# %%
def answer_6_1(steps, every, size):
    return min(size, math.ceil(steps / every))


verdict = grade("6.1", answer_6_1)
assert verdict
verdict
# %% [markdown]
The packaged CA run made 300 steps with a snapshot every 40: it ended with
# %%
# NBVAL_CHECK_OUTPUT
print(answer_6_1(300, 40, 30), "members")
# %% [markdown]
**Exercise 6.2** The 95 % bootstrap interval of the mean of `a - b`.

Both methods saw the same images, so an image is drawn for both or for neither: take the difference first, and draw from the differences. To
draw for `a` and for `b` separately would let hard images count against one method only, and widen the interval.
# %%
def answer_6_2(a, b, draws=2000):
    picks = torch.randint(len(a), (draws, len(a)), generator=torch.Generator().manual_seed(seed))
    means = (a - b)[picks].mean(dim=1)
    return means.quantile(0.025), means.quantile(0.975)


verdict = grade("6.2", answer_6_2)
assert verdict
verdict
# %% [markdown]
**Exercise 6.3** How many times more of a mask lies in a region than its size alone would give?

The share of the mask's sum that lies in the region, divided by the share of the pixels that do. The sizes cancel, and what is left is the mean of the
mask over the region, divided by its mean over the whole image: 1 for a constant mask, whatever the region.
# %%
def answer_6_3(masks, regions):
    inside = (masks[:, 0] * regions).sum(dim=(1, 2)) / regions.sum(dim=(1, 2))
    return inside / masks.mean(dim=(1, 2, 3))


verdict = grade("6.3", answer_6_3)
assert verdict
verdict
# %% [markdown]
**Exercise 6.4** `remember`.

`state_dict()` hands out the very tensors that the optimiser is about to change. A snapshot that is not cloned follows the classifier, and the
pool would be full of copies of the present. The state dict, unlike `parameters()`, also holds the running statistics of batch norm.
# %%
def answer_6_4(members, step, classifier, every):
    if step % every == 0:
        members[step] = {name: value.detach().clone() for name, value in classifier.state_dict().items()}


verdict = grade("6.4", answer_6_4)
assert verdict
verdict
# %% [markdown]
**Exercise 6.5** The loss of the classifier in one CA step.

It learns from clean images always, and from both masked views when it was its own judge. It tries to *recognise* the masked-out images, against the masker.
The masks are held constant by `detach`: without it the masker would be pulled towards masks that make the classifier's life easy, which is not
its objective.
# %%
def answer_6_5(classifier, images, labels, masks, member):
    loss = F.cross_entropy(classifier(images), labels)
    if not member:
        for view in (masked_in, masked_out):
            loss = loss + F.cross_entropy(classifier(view(images, masks.detach(), classifier.mean)), labels)
    return loss


verdict = grade("6.5", answer_6_5)
assert verdict
verdict
# %% [markdown]
**Exercise 6.6** is open, and has no grade. A hint for reading your result: look at what the classifier can do *without* the mark before and after
(`believes`). As long as it cannot recognise the object, nothing in the masked-out term asks the masker to hide it.
