# %% [markdown]
# Solutions · 02 · One mask per image

Try the exercises of [the notebook](../02_one_mask_per_image.ipynb) first. Each section restates one, reasons, answers and checks.

# %% [parameters]
profile = ""  # "default", "smoke", or "" for what MASKERLIB_PROFILE says
seed = 0
device = ""  # "cpu", "cuda", "mps", or "" for the best there is

# %%
%config InlineBackend.figure_formats = ["jpeg"]
import torch

from maskerlib.course.grading import grade
from maskerlib.course.session import open_session

session = open_session(
    "02_one_mask_per_image_solutions",
    profile,
    device,
    default={"scenes": 24, "steps": 40},
    smoke={"scenes": 4, "steps": 3},
)
size = session.sizes

# %% [markdown]
The functions of exercises 3 to 5 are also tried on scenes, with masks that `optimise_mask` finds for the scene classifier.

# %%
from maskerlib.optimise import optimise_mask
from maskerlib.pretrained import scene_classifier, scene_masker
from maskerlib.scenes import Scenes

classifier = scene_classifier(session.device)
scenes = Scenes("val", count=size["scenes"], cache=session.cache / "scenes")
images = scenes.batch(range(len(scenes))).images.to(session.device)
found = optimise_mask(classifier, images, steps=size["steps"], seed=seed)

# %% [markdown]
## 2.1 Equation 1 by hand

*Clean and masked-in are classified as $y$; masked-in gives it 0.8, masked-out 0.6; the mask covers 30 %; $\lambda_{in} = 1$, $\lambda_{out} = 5$.*

The masked-in term is $-\log 0.8$. The masked-out term is minus the entropy of $(0.6, 0.4)$. The masked-in image is recognised, so
$c_{in} = 1$ and the mask earns $1 - 0.3$. The masked-out image is still classified as $y$, because 0.6 is more than 0.4: $c_{out} = 0$, and
$(0 - 0.3)_+ = 0$. However small the mask, it earns nothing on a side on which it does not work.

# %%
# NBVAL_CHECK_OUTPUT
left = torch.tensor([0.6, 0.4])
answer_2_1 = float(-torch.tensor(0.8).log() + (left * left.log()).sum() - 1 * (1 - 0.3) - 5 * 0)
print(f"{answer_2_1:.3f}")

# %%
verdict = grade("2.1", answer_2_1)
assert verdict
verdict

# %% [markdown]
## 2.2 The conditional size rewards

*From areas and three decisions an image, what is added to the loss?*

The bracket of the masked-in side is `right_in`. That of the masked-out side needs two things: the whole image was right, and the masked-out one
is not. Multiplying two brackets is the logical *and*.

# %%
def answer_2_2(areas, right_whole, right_in, right_out, size_in, size_out):
    c_in, c_out = right_in.float(), (right_whole & ~right_out).float()
    return -size_in * (c_in - areas).relu() - size_out * (c_out - areas).relu()


verdict = grade("2.2", answer_2_2)
assert verdict
verdict

# %% [markdown]
## 2.3 Robust masks

*Is the masked-in image classified as the target, unmoved and after four moves?*

Image and mask move together, so it is the same to move the blended view: `torch.roll` moves every pixel of it by the same amount, and the
colour that hides is the same everywhere. One batch of five views an image is then one call of the classifier.

# %%
def answer_2_3(classifier, images, masks, targets, reach):
    view = classifier.mean + masks * (images - classifier.mean)
    moves = ((0, 0), (reach, 0), (-reach, 0), (0, reach), (0, -reach))
    views = torch.cat([torch.roll(view, by, dims=(2, 3)) for by in moves])
    with torch.no_grad():
        answers = classifier(views).argmax(dim=1).view(len(moves), -1)
    return (answers == targets).all(dim=0)


verdict = grade("2.3", answer_2_3)
assert verdict
verdict

# %% [markdown]
The masks of `optimise_mask` were shifted by about 3 of 96 pixels at every step. How robust are they to moves as large and larger?

# %%
for reach in (2, 4, 8):
    share = answer_2_3(classifier, images, found.masks, found.targets, reach).float().mean()
    print(f"moved by {reach} pixels: {share:.2f} of the masks are robust")

# %% [markdown]
## 2.4 Transfer to another classifier

*Among the images whose whole the other classifier recognises, on which share do the masks work?*

An image that it does not recognise at all says nothing about a mask, so it leaves the count above *and* below the line. Both sides have to
work on the *same* image.

# %%
def answer_2_4(whole, inside, outside, targets):
    fits = whole.argmax(dim=1) == targets
    works = (inside.argmax(dim=1) == targets) & (outside.argmax(dim=1) != targets)
    return float((works & fits).sum() / fits.sum().clamp(min=1))


verdict = grade("2.4", answer_2_4)
assert verdict
verdict

# %%
from maskerlib.masks import masked_in, masked_out

networks = {"its own classifier": classifier, "the classifier trained on": scene_masker("CA", session.device).classifier.eval()}
for name, network in networks.items():
    views = (images, *(view(images, found.masks, network.mean) for view in (masked_in, masked_out)))
    with torch.no_grad():
        share = answer_2_4(*map(network, views), found.targets)
    print(f"{name}: the masks work on {share:.2f}")

# %% [markdown]
## 2.5 How little suffices

*Show only the highest share of the pixels. Which share is the smallest that keeps the target?*

The rank of each pixel comes from sorting twice: `argsort` says which pixel is at each place, and the `argsort` of that says at which place each
pixel is. Going from the largest share down and overwriting leaves the smallest one that works. More pixels need not be better: a share may
work although a larger one does not, so a bisection would be wrong.

# %%
def answer_2_5(classifier, images, masks, targets, shares):
    ranks = masks.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view_as(masks)
    smallest = torch.full(targets.shape, float("inf"), device=images.device)
    for share in reversed(shares):
        keep = (ranks < round(share * masks[0].numel())).float()
        with torch.no_grad():
            kept = classifier(classifier.mean + keep * (images - classifier.mean)).argmax(dim=1) == targets
        smallest[kept] = share
    return smallest


verdict = grade("2.5", answer_2_5)
assert verdict
verdict

# %% [markdown]
And for the scenes, with the masks of `optimise_mask` and, for comparison, those of the scene before, which know nothing about the image:

# %%
shares = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
for name, masks in (("own masks", found.masks), ("another scene's", found.masks.roll(1, dims=0))):
    needed = answer_2_5(classifier, images, masks, found.targets, shares)
    print(f"{name:16s} median share that suffices: {needed.median():.2f}")

# %% [markdown]
With its own mask an image needs a small part of the object only, less than what a whole mask covers: a decision is a ranking, and the first
few pixels of an object already put its class ahead of fifteen others. With another scene's mask it takes a good part of the
image, found by chance.
