# %% [markdown]
# 06 · Fixed or classifier-agnostic: whose saliency is it?

A saliency map has two possible owners. It can say what *this* classifier used, with all its bad habits, or what there is in the image
that *any* classifier could use. The study trains maskers for both: **FIX** leaves the classifier as it is, **CA** keeps training it
beside the masker. On clean scenes their maps look much alike. So we plant a bad habit, a small striped mark that gives the class away,
and ask each of them where it looks.

![Marked scenes, and for three pairs of runs the masks of FIX and CA](../figures/06_fixed_or_classifier_agnostic.png)

*Marked scenes with the box of their object, and the masks of six maskers: each pair is FIX and CA with the same classifier and the same
training scenes. The drawn objects are [OpenMoji](https://openmoji.org) artwork, CC BY-SA 4.0.*

**Afterwards you can** say what a CA run does that a FIX run does not, step by step; build the pool of earlier classifiers; compare two
maskers on the same images with an interval; plant a shortcut and measure whether a classifier relies on it; and say what neither kind of
map will tell you about it.

| | |
|---|---|
| time | about 4 minutes on two processor cores |
| hardware | a laptop's CPU; a GPU is used when there is one |
| before | [05 · Measuring saliency](05_measuring_saliency.ipynb) |
| source | Phang, Park and Geras, [arXiv 2010.09750](https://arxiv.org/abs/2010.09750), section 3; Zolna, Geras and Cho, [arXiv 1805.08249](https://arxiv.org/abs/1805.08249) |
| after | this is the end of part one; the [README](../README.md) says what else is here |
# %% [markdown]
## 0. Setting up

The classifier of the scenes, and a FIX and a CA masker trained for 300 steps on it, come with the package. The six maskers of the
planted shortcut do not: they are trained here, and that is where the minutes go.
# %% [parameters]
level = "default"  # of the scenes: "easy", "default" or "hard"
profile = ""  # "default", "smoke", or "" for what MASKERLIB_PROFILE says
seed = 0
device = ""  # "cpu", "cuda", "mps", or "" for the best there is
# %%
%config InlineBackend.figure_formats = ["jpeg"]
from maskerlib.course.session import open_session

session = open_session(
    "06_fixed_or_classifier_agnostic",
    profile,
    device,
    default=dict(train=2000, images=400, draws=1000, live=32, live_batch=16, watch=(0, 4, 12), steps=48, batch=32),
    smoke=dict(train=64, images=32, draws=100, live=3, live_batch=8, watch=(0, 1, 2), steps=2, batch=8),
)
sizes = session.sizes
# %%
from maskerlib.pretrained import scene_masker
from maskerlib.scenes import Scenes

made = dict(level=level, cache=session.cache / "scenes")
train = Scenes("train", count=sizes["train"], **made)
val = Scenes("val", count=sizes["images"], **made)
pair = {mode: scene_masker(mode, session.device) for mode in ("FIX", "CA")}
# %% [markdown]
## 1. FIX and CA, side by side

Both maskers were trained on the same scenes, with the same seed, by the same objective (MaxClass on the masked-in image, MaxEnt on the
masked-out one), started from the same classifier. Two things differ. In the CA run the classifier learnt on; and, as in the study, the
reward for a small mask is larger there (15 against 10). Look at both:
# %%
from maskerlib import plots

shown = val.batch(range(16, 22)).to(session.device)
maps = {mode: run(shown.images) for mode, run in pair.items()} | {"truth": shown.masks[:, None].float()}
plots.map_grid(shown.images, shown.boxes, maps, [val.class_names[label] for label in shown.labels])
# %% [markdown]
You would have a hard time saying which column is which. That is the first finding, and it is a modest one: where the object is
all that there is to find, a map of what this classifier uses and a map of what any could use come to the same place. A surprise would
have been a column that shows backgrounds.

Now the metrics of notebook 05, each map beside the classifier that it explains:
# %%
from maskerlib.evaluation import evaluate

explained = {mode: run.classifier for mode, run in pair.items()}
table, rows = evaluate(pair, val, explained["FIX"], explained=explained, per_image=True)
table[["LE", "OM", "F1", "SM", "PxAP", "mean"]].round(3)
# %% [markdown]
Is a difference of a point a difference? Both maskers saw *the same* images, and some images are hard for everyone. So we look at the
difference image by image, and ask how much its mean would change with other images. The **bootstrap** answers by pretending: from the
$N$ differences draw $N$ again, with repetition, take the mean, and repeat. With three images there are only $3^3 = 27$ ways to draw. Let
one of them be wrong for CA alone, so that the differences are 0, 0 and 1:
# %%
# NBVAL_CHECK_OUTPUT
from collections import Counter
from itertools import product

means = Counter(round(sum(drawn) / 3, 2) for drawn in product((0, 0, 1), repeat=3))
for mean, ways in sorted(means.items()):
    print(f"mean {mean:.2f}: {ways:2d} of 27 draws")
# %% [markdown]
In eight of 27 draws the one difference is not drawn at all, and the mean is 0: three images are far too few to tell. With hundreds we do
not list the ways, we draw at random. The interval is what the middle 95 % of the means lie between.
# %%
import torch


def interval(values, draws=sizes["draws"]):
    """The mean of values (N,), and the ends of its 95 % bootstrap interval."""
    values = torch.as_tensor(values).double().cpu()
    picks = torch.randint(len(values), (draws, len(values)), generator=torch.Generator().manual_seed(seed))
    low, high = values[picks].mean(dim=1).quantile(torch.tensor([0.025, 0.975]).double())
    return float(values.mean()), float(low), float(high)


def said(values):
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(values))
# %%
for metric in ("LE", "OM", "F1", "SM"):
    fix, ca = (rows.loc[mode, metric].to_numpy() for mode in pair)
    print(f"{metric:3s} FIX {fix.mean():6.3f}   CA {ca.mean():6.3f}   CA - FIX {said(ca - fix)}")
# %% [markdown]
An interval that holds 0 leaves open which of the two is better. FIX has the higher F1, by about two hundredths, and the interval is far from 0; in
OM it is a little ahead as well. For LE and SM the interval reaches 0. PxAP, where CA is ahead in the table, pools the pixels of
all images and so has no value for one image; a bootstrap would have to draw the images and compute it anew each time.

Mind what the interval is about: other *images*, with these two maskers. There is one training run of each, one seed. Another seed gives other
maskers, and no interval on this page knows how different they would be.

## 2. What the classifier of a CA run has become

The maps hardly differ. The classifiers do. To see it, show both of them, the one from before the CA run (which is FIX's) and the one after
it, the same three kinds of image: clean, masked-in and masked-out. Entropy is in nats; undecided between sixteen classes is
$\log 16 \approx 2.77$.
# %%
from maskerlib.masks import masked_in, masked_out
from maskerlib.objectives import entropy
from maskerlib.samples import batches


def ask(classifier, masker):
    """(N, 4): right on clean, masked-in and masked-out images, and the entropy on the masked-out ones."""
    found = []
    for batch in batches(val, 100):
        images, labels = batch.images.to(session.device), batch.labels.to(session.device)
        masks = masker(images)
        views = [images, *(view(images, masks, classifier.mean) for view in (masked_in, masked_out))]
        with torch.no_grad():
            logits = [classifier(view) for view in views]
        right = [(each.argmax(dim=1) == labels).float() for each in logits]
        found.append(torch.stack([*right, entropy(logits[2])], dim=1))
    return torch.cat(found)
# %%
import pandas as pd

columns = ["clean", "masked-in", "masked-out", "entropy (out)"]
before, after = explained["FIX"], explained["CA"]
asked = {
    (f"masks of {mode}", name): ask(classifier, pair[mode])
    for mode in pair
    for name, classifier in (("before", before), ("after", after))
}
pd.DataFrame({key: values.mean(dim=0).tolist() for key, values in asked.items()}, index=columns).T.round(2)
# %%
for mode in pair:
    gained = asked[f"masks of {mode}", "after"] - asked[f"masks of {mode}", "before"]
    print(f"masks of {mode:3s}  entropy, after - before {said(gained[:, 3])}")
    assert interval(gained[:, 3])[1] > 0, "the CA classifier is not more undecided about hidden objects"
# %% [markdown]
Look at the last column first. Under either masker's masks the classifier has become less sure about images whose object is hidden, and both
intervals stay above 0: the cell asserts it. It is the classifier that has changed, then, and not the masks alone. FIX's classifier has never
seen a hole in the middle of an image, and guesses. CA's has been trained on thousands of them.

And yet the column before it: the CA classifier is *more often right* about masked-out images, two times as often or more. That is no contradiction. It
was trained to recognise them where something is left to go by, and where nothing is, the best that cross-entropy can do is to be undecided. On
masked-in images it has become better, too. On clean images nothing was lost. A surprise would have been a classifier that pays for its new
skill with its old one: the clean images in every step are there to prevent that.

## 3. The pool

If the masker were judged by the current classifier alone, the two could chase each other: the classifier forgets what it knew about fur,
the masker stops hiding fur, the classifier learns fur again. CA therefore keeps a **pool** of the classifier's earlier weights
(Zolna et al., 2020). Write $\mathcal{F}$ for the pool with the current classifier $F$. Two objectives are minimised side by side:

$$\text{masker:}\quad \min_\theta\; \mathbb{E}_{F' \sim \mathcal{F}}\; J\big(F', x, M_\theta(x)\big)
\qquad\qquad
\text{classifier:}\quad \min_F\; \mathrm{CE}(x) + \big[F' = F\big]\,\big(\mathrm{CE}(m\,x) + \mathrm{CE}((1-m)\,x)\big)$$

$J$ is the objective of notebook 03, CE the classifier's own cross-entropy with the label on the clean, the masked-in and the masked-out
image. The two disagree about the last: the masker wants nothing to be recognised in it, the classifier learns to recognise something. The
bracket says when the classifier learns from masked images: only when it was itself the judge of this step.

The pool has two methods. `remember` keeps a copy every so many steps. `draw` tosses a coin: on heads the current classifier judges (`None`),
on tails a random member. (`stream` gives a random generator that follows from the seed and the step, so that both pools below
draw alike.)
# %%
import copy

from maskerlib.seeds import stream


class NaivePool:
    def __init__(self, every, historic):
        self.every, self.historic, self.members = every, historic, {}

    def remember(self, step, classifier):
        if step % self.every == 0:
            self.members[step] = copy.deepcopy(classifier.state_dict())

    def draw(self, step):
        coin, which = torch.rand(2, generator=stream(seed, "pool-draw", step))
        return None if coin >= self.historic else sorted(self.members)[int(which * len(self.members))]
# %% [markdown]
`ClassifierPool` does the same, hands out a network instead of a number, and replaces a random member when it is full. To check it without
training, take a classifier that does nothing but carry the time: at each step all its biases are set to the step's number. Who judges
is then written in the judge.
# %%
from maskerlib.pool import ClassifierPool

clock = copy.deepcopy(before)
naive, pool = NaivePool(8, 0.5), ClassifierPool(clock, every=8, historic=0.5, seed=seed)
judged = []
for step in range(64):
    clock.network.head.bias.fill_(step)
    naive.remember(step, clock)
    pool.remember(step, clock)
    judge = pool.draw(step)
    judged.append(None if judge is None else int(judge.network.head.bias[0]))
    assert judged[-1] == naive.draw(step)
# %%
# NBVAL_CHECK_OUTPUT
print("step  ", *(f"{step:3d}" for step in range(20)))
print("judge ", *("now" if judge is None else f"{judge:3d}" for judge in judged[:20]))
# %%
from maskerlib.course.agnostic_figures import judges

judges(judged, every=8)
# %% [markdown]
Blue steps lie on the diagonal: the classifier of that very moment judges. Orange steps are judged by a member, a horizontal line that
begins at the step at which it was taken. In the long run one half is orange, and an early member is drawn as often as a late one: the
masker must go on hiding what fooled the classifier an hour ago. A surprise would be an orange point above the diagonal, a judge from
the future.

### One step, written out

`compute_gradients` does one step's work but the step. We give it a CA configuration, a classifier that learns, a new masker and a batch,
once with the current classifier as the judge and once with a member (here the CA classifier of the package stands in for one).
# %%
from maskerlib.config import MaskerConfig
from maskerlib.masker import masker_for
from maskerlib.training import compute_gradients

learner = copy.deepcopy(before).requires_grad_(True)
masker = masker_for(learner, seed=seed).to(session.device).train()
weights = {"classifier": list(learner.parameters()), "masker": list(masker.parameters())}
start = {name: [weight.detach().clone() for weight in part] for name, part in weights.items()}
batch = train.batch(range(8)).to(session.device)


def gradients(judge):
    """What one step leaves in `.grad`: {"classifier": one long row, "masker": another}."""
    for weight in weights["classifier"] + weights["masker"]:
        weight.grad = None
    compute_gradients(MaskerConfig.final("CA"), learner, masker, batch.images, batch.labels, judge=judge)
    return {name: torch.cat([weight.grad.flatten() for weight in part]) for name, part in weights.items()}
# %%
with_current, with_member = gradients(judge=None), gradients(judge=after)

for name, part in weights.items():
    assert all(torch.equal(weight, old) for weight, old in zip(part, start[name])), "a weight has moved"
assert all(weight.grad is None for weight in after.parameters()), "the member learns"
# %% [markdown]
All gradients are there and no weight has moved: the optimisers step afterwards. Now the claim about the bracket. Compute the classifier's
three cross-entropies by hand, and the gradient of each.
# %%
from torch.nn import functional as F

from maskerlib.masks import mask_from_logits

with torch.no_grad():
    masks = mask_from_logits(masker(learner.activations(batch.images)[1]), (96, 96))
parts = []
for view in (batch.images, *(cut(batch.images, masks, learner.mean) for cut in (masked_in, masked_out))):
    loss = F.cross_entropy(learner(view), batch.labels)
    parts.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights["classifier"])]))
clean, seen_in, seen_out = parts
# %%
def agree(a, b):
    return float((a - b).norm() / b.norm()) < 1e-3


assert agree(with_member["classifier"], clean), "a member judged, and F learnt from masked images"
assert agree(with_current["classifier"], clean + seen_in + seen_out)
assert not agree(with_current["masker"], with_member["masker"]), "the member has no say"
# %% [markdown]
When a member judges, what the classifier learns is exactly the gradient of the clean images, and the masked ones do not move it. When it
judges itself, all three kinds do. The masker's gradient depends on who judges, as it should. (In the released code it does not: a member
is drawn, yet the current classifier judges. `released_pool=True` brings that back.)

Why gradients first and steps later? Backpropagation goes back through the weights that the forward pass used. If the classifier takes its
step in between, these are gone:
# %%
# NBVAL_CHECK_OUTPUT
hasty = copy.deepcopy(learner)
sgd = torch.optim.SGD(hasty.parameters(), lr=1e-3)
mask = torch.full((8, 1, 96, 96), 0.5, device=session.device, requires_grad=True)
loss = F.cross_entropy(hasty(masked_in(batch.images, mask, hasty.mean)), batch.labels)
loss.backward(retain_graph=True)  # the classifier's gradient ...
sgd.step()  # ... and its step
try:
    loss.backward()  # the mask's gradient, too late
except RuntimeError as error:
    print(str(error).split(":")[0])
# %% [markdown]
PyTorch refuses. Versions before 1.5 went on without a word and gave wrong gradients, and the release, written in those days, has the
steps in this order.

## 4. Masks and classifier over training

The histories of the two packaged runs, 300 steps each:
# %%
panels = {"in": "masked-in term", "out": "masked-out term", "area": "area of the mask", "right": "clean images right"}
plots.training_curves({mode: run.history for mode, run in pair.items()}, panels)
# %% [markdown]
The area of the masks falls within the first thirty steps in both runs, and so does the masked-in term: where the object is, is learnt early. What
takes longer is the masked-out term, and only in CA. In FIX it levels off, since the classifier that judges never changes. In CA it goes on
falling for a hundred steps and more, while the classifier learns to be undecided. It also swings more: the judge changes from step to step. On the
right, the share of clean images that the classifier gets right, batch by batch (a running mean): the same classifier throughout for FIX, so its ups
and downs are those of the batches; CA's dips by a point or two and comes back.

To watch the masks themselves, make the steps ourselves. This is the whole of CA training, less checkpoints, schedule and flips:
# %%
def moved(classifier, start):
    """The length of the way that the weights have come, as a share of their own length."""
    old, new = (torch.cat([weight.detach().flatten() for weight in each.parameters()]) for each in (start, classifier))
    return float((new - old).norm() / old.norm())


def live_run(watch, steps=sizes["live"], size=sizes["live_batch"]):
    learner = copy.deepcopy(before).requires_grad_(True)
    masker = masker_for(learner, seed=seed).to(session.device).train()
    config = MaskerConfig.final("CA")
    adam = torch.optim.Adam(masker.parameters(), lr=5e-3)
    sgd = torch.optim.SGD(learner.parameters(), lr=config.classifier_lr, momentum=config.momentum)
    pool = ClassifierPool(learner, every=4, seed=seed)
    for step in range(steps):
        watch(step, masker, learner)
        pool.remember(step, learner)
        judge = pool.draw(step)
        adam.zero_grad()
        sgd.zero_grad()
        batch = train.batch(range(step * size, (step + 1) * size)).to(session.device)
        compute_gradients(config, learner, masker, batch.images, batch.labels, judge=judge)
        adam.step()
        sgd.step()
    watch(steps, masker, learner)
# %%
from maskerlib.masker import masker_method

scene_row = shown.images[:4]
pictures, titles = [list(scene_row)], [["scene"] * 4]


def watch(step, masker, learner):
    if step in (*sizes["watch"], sizes["live"]):
        pictures.append(list(masker_method(masker)(scene_row, None, learner)))
        titles.append([f"after {step} steps"] * 4)
        print(f"after {step:2d} steps the classifier has moved by {100 * moved(learner, before):.2f} % of its length")


live_run(watch)
plots.image_grid(pictures, titles, width=1.4)
# %%
print(f"and in the 300 steps of the packaged run by {100 * moved(after, before):.2f} %")
# %% [markdown]
Before the first step the mask is grey and shapeless. After four steps there are blobs on everything that stands out, distractors included. Then
the blobs shrink, since a small mask is rewarded as long as it does its work, and those on distractors shrink faster. All the while the classifier
moves by a fraction of a per cent of the length of its weights, and even 300 steps have moved the packaged one by about one per cent. Keep that number in mind: *any
classifier* means, in practice, the few that this one has been on its way.

## 5. A planted shortcut

In 2019 Lapuschkin and colleagues found a prize-winning classifier that recognised horses by the photographer's tag in the corner of the
picture. They called it a *Clever Hans*, after the horse that could not count but watched its owner. Geirhos and colleagues (2020) call
such habits **shortcuts**: rules that work on the data at hand and nowhere else. If saliency maps are of use, then here. We plant one, so
that we know where it is: a square of 16 × 16 pixels, 2.8 % of the scene, with stripes in two colours. Four times four colours make one mark
for each class.
# %%
from maskerlib.course.shortcut import Marked, draw_mark

names = val.class_names
plots.image_grid([[draw_mark(label) for label in range(16)]], [list(names)], width=0.8)
# %%
marked = Marked(val, seed=seed)
wrong = Marked(val, carries="other", seed=seed)
a, b = marked.batch(range(6)), wrong.batch(range(6))
titles = [f"{names[label]}, mark of {names[mark]}" for label, mark in zip(b.labels, wrong.mark_labels)]
plots.image_grid([list(a.images), list(b.images)], [[names[label] for label in a.labels], titles])
# %% [markdown]
`Marked` puts the mark at a random place of each scene that keeps four pixels from the object, where there is one. Above, each scene bears
the mark of its own class; below, at the same place, that of another class. The second kind is the test of what a classifier believes:
if object and mark disagree, whom does it follow?
# %%
from maskerlib.classifier_training import accuracy


def believes(classifier):
    """Shares of the validation scenes: right without, with the right and with a wrong mark, and led by the wrong one."""
    with torch.no_grad():
        said = torch.cat([classifier(part.images.to(session.device)).argmax(dim=1).cpu() for part in batches(wrong, 100)])
    led = float((said == wrong.mark_labels).float().mean())
    return [*(accuracy(classifier, source) for source in (val, marked, wrong)), led]
# %% [markdown]
Two classifiers are made from the one that we have, by one pass over marked training scenes each:

- **leaning**: every scene bears the mark of its class. Both object and mark tell it.
- **blind**: the marks are dealt out at random, and the *mark* is what the label names. The object tells nothing, and the classifier has a
  pass to forget it. This one is a shortcut and nothing else.
# %%
from maskerlib.classifier_training import ClassifierConfig, train_classifier

lessons = {
    "leaning": Marked(train, seed=seed),
    "blind": Marked(train, carries="random", answer="mark", seed=seed),
}
recipe = ClassifierConfig(passes=1, batch_size=16, lr=0.02, small=0, seed=seed)
classifiers = {"as it was": before}
for name, source in lessons.items():
    classifiers[name] = train_classifier(before, source, recipe, progress=False)
# %%
beliefs = ["no mark", "right mark", "wrong mark", "led by the wrong mark"]
pd.DataFrame({name: believes(each) for name, each in classifiers.items()}, index=beliefs).T.round(2)
# %% [markdown]
PROSE5

## 6. The prediction, and what happened

What do we expect? Written down before any of it was run:

> **FIX** explains this classifier, so with the blind classifier its masks should show the mark. **CA** asks what any classifier could use.
> The object is there for any classifier to use, so CA's masks should look past the mark, to the object.

The design, fixed as well before the results: the recipe of the packaged maskers with fewer steps, one seed, training scenes with right
marks; then, on all validation scenes with right marks, the mean of the mask on the mark, on the object, and on the rest. By hand first. A mask
of 4 × 4 pixels, the mark in its upper left corner:
# %%
# NBVAL_CHECK_OUTPUT
from maskerlib.course.shortcut import mask_by_region

mask = torch.tensor([[0.8, 0.6, 0.0, 0.0], [0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.2, 0.2], [0.0, 0.0, 0.2, 0.2]])
corner = torch.zeros(4, 4, dtype=torch.bool)
corner[:2, :2] = True
value, share = mask[corner].mean(), mask[corner].sum() / mask.sum()
print(f"mean on the mark {value:.2f}, elsewhere {mask[~corner].mean():.3f}; share of the mask that lies on it {share:.2f}")
ours = mask_by_region(mask[None, None], corner[None])
assert torch.allclose(torch.stack(ours).flatten(), torch.stack([value, share]))
# %% [markdown]
The four pixels of the corner have the mean 0.6, the other twelve share 0.8. Of the mask's sum of 3.2, three quarters lie in the corner. The two numbers
answer different questions: the second grows with the size of the region, the first does not. We compare regions by the first.
# %%
def by_region(run):
    """(N, 3): the mean of each mask on the mark, on the object and on the rest of the marked validation scenes."""
    found = []
    for first in range(0, len(marked), 100):
        indices = range(first, min(first + 100, len(marked)))
        part, marks = marked.batch(indices), marked.mark_masks(indices)
        masks = run(part.images.to(session.device)).cpu()
        regions = (marks, part.masks, ~(marks | part.masks))
        found.append(torch.stack([mask_by_region(masks, region)[0] for region in regions], dim=1))
    return torch.cat(found)
# %%
from maskerlib.training import train_masker


def train_pair(classifier, source):
    """A FIX and a CA masker of a classifier, trained on the same scenes."""
    options = dict(steps=sizes["steps"], batch_size=sizes["batch"], masker_lr=5e-3, schedule="cosine", seed=seed)
    options |= dict(crop_scale=(1.0, 1.0), pool_every=6)
    configs = {mode: MaskerConfig.final(mode, **options) for mode in ("FIX", "CA")}
    return {mode: train_masker(classifier, source, config, progress=False) for mode, config in configs.items()}


pairs = {"blind": train_pair(classifiers["blind"], Marked(train, seed=seed))}
where = {("blind", mode): by_region(run) for mode, run in pairs["blind"].items()}
# %%
regions = ["mark", "object", "rest"]


def report(name):
    for mode in ("FIX", "CA"):
        ends = [interval(column) for column in where[name, mode].T]
        texts = [f"{region} {mean:.2f} [{low:.2f}, {high:.2f}]" for region, (mean, low, high) in zip(regions, ends)]
        print(f"{name}, {mode:3s}  " + "   ".join(texts))
    for column, region in enumerate(regions[:2]):
        print(f"CA - FIX on the {region:6s} {said(where[name, 'CA'][:, column] - where[name, 'FIX'][:, column])}")


report("blind")
# %%
pd.DataFrame({name: believes(pairs["blind"][name].classifier) for name in ("FIX", "CA")}, index=beliefs).T.round(2)
# %% [markdown]
PROSE6

## 7. Under which condition does a map look past the mark?

This part was thought of after the last, so read it as an exploration. PROSE7a
# %%
pairs["leaning"] = train_pair(classifiers["leaning"], Marked(train, seed=seed))
pairs["mark tells nothing"] = train_pair(classifiers["leaning"], Marked(train, carries="random", seed=seed))
for name in ("leaning", "mark tells nothing"):
    where |= {(name, mode): by_region(run) for mode, run in pairs[name].items()}
    report(name)
# %%
from maskerlib.course.agnostic_figures import region_bars

bars = {
    name: {mode: dict(zip(regions, (interval(column) for column in where[name, mode].T))) for mode in pairs[name]}
    for name in pairs
}
region_bars(bars)
# %%
for mode in ("FIX", "CA"):
    change = where["mark tells nothing", mode][:, 0] - where["leaning", mode][:, 0]
    print(f"{mode:3s} on the mark, once it tells nothing: {said(change)}")
rows = {(name, mode): believes(run.classifier) for name in pairs for mode, run in pairs[name].items()}
pd.DataFrame(rows, index=beliefs).T.round(2)
# %% [markdown]
PROSE7b
# %%
if session.profile == "default":
    for mode in ("FIX", "CA"):
        on_mark, on_object = (interval(where["blind", mode][:, column]) for column in (0, 1))
        assert on_mark[1] > on_object[2] + 0.2, "the masks do not show the shortcut"
        change = where["mark tells nothing", mode][:, 0] - where["leaning", mode][:, 0]
        assert interval(change)[2] < 0, "the masks do not let go of the mark"
# %%
some = range(4, 9)
part = marked.batch(some).to(session.device)
maps = {f"{name}\n{mode}": run(part.images) for name in pairs for mode, run in pairs[name].items()}
closing = plots.map_grid(part.images, part.boxes, maps, [names[label] for label in part.labels])
plots.save_figure(closing, session.figures / "06_fixed_or_classifier_agnostic.png")
closing
# %% [markdown]
PROSE8

## Takeaways

TODO

## Exercises

**Exercise 6.1** *(easy)* A pool takes a snapshot at step 0 and then every `every` steps, and holds at most `size` of them. How many members
does it hold after `steps` steps? Write a function of `steps`, `every`, `size`.
# %%
from maskerlib.course.grading import grade

answer_6_1 = None  # replace None by a function: steps, every, size -> number of members
grade("6.1", answer_6_1)
# %% [markdown]
**Exercise 6.2** *(medium)* Two methods were measured on the same $N$ images. Write a function of their values `a` and `b`, both (N,), that
returns the lower and the upper end of the 95 % bootstrap interval of the mean of `a - b`.
# %%
answer_6_2 = None  # replace None by a function: a (N,), b (N,) -> (low, high)
grade("6.2", answer_6_2)
# %% [markdown]
**Exercise 6.3** *(medium)* A mark covers 2.8 % of a scene. If 2.8 % of the mask lies on it, the mask has no liking for it. Write a function of
masks (B, 1, H, W) and regions (B, H, W) that says, for each image, how many times more of the mask lies in the region than the region's
size alone would give. No region and no mask is empty.
# %%
answer_6_3 = None  # replace None by a function: masks (B, 1, H, W), regions (B, H, W) -> (B,)
grade("6.3", answer_6_3)
# %% [markdown]
**Exercise 6.4** *(medium)* Write `remember` yourself: a function of the dict of members, the step, the classifier (any `nn.Module`) and
`every`, which adds the classifier's state to the dict, under the number of the step, when a snapshot is due. The classifier goes on
training afterwards.
# %%
answer_6_4 = None  # replace None by a function: members, step, classifier, every -> nothing; it adds to members
grade("6.4", answer_6_4)
# %% [markdown]
**Exercise 6.5** *(harder)* Write the loss of the *classifier* in one CA step: a function of the classifier, images (B, 3, H, W), labels (B,),
masks (B, 1, H, W) that carry a gradient, and `member`, true when a member of the pool judges. What is hidden has the colour
`classifier.mean`. Mind what the masks must not learn from it.
# %%
answer_6_5 = None  # replace None by a function: classifier, images, labels, masks, member -> scalar tensor
grade("6.5", answer_6_5)
# %% [markdown]
**Exercise 6.6** *(open)* In section 6 the classifier of the CA run hardly moved. Give `train_pair` a `classifier_lr` ten times as large, and
then ten times as many steps. Which of the two changes where the masks lie? Write your prediction down first.

## References

- J. Phang, J. Park, K. J. Geras. *Investigating and Simplifying Masking-based Saliency Methods for Model Interpretability.*
  [arXiv 2010.09750](https://arxiv.org/abs/2010.09750)
- K. Zolna, K. J. Geras, K. Cho. *Classifier-agnostic saliency map extraction.* [arXiv 1805.08249](https://arxiv.org/abs/1805.08249)
- R. Geirhos, J.-H. Jacobsen, C. Michaelis, R. Zemel, W. Brendel, M. Bethge, F. A. Wichmann. *Shortcut Learning in Deep Neural
  Networks.* [arXiv 2004.07780](https://arxiv.org/abs/2004.07780)
- S. Lapuschkin, S. Wäldchen, A. Binder, G. Montavon, W. Samek, K.-R. Müller. *Unmasking Clever Hans Predictors and Assessing What Machines
  Really Learn.* [arXiv 1902.10178](https://arxiv.org/abs/1902.10178)
