"""`evaluate`: every metric, for several methods, over a data set, in one table.

The images are read once, a batch at a time, and every method sees the same batch. What is kept are sums and
histograms (`maskerlib.tally`), so memory does not grow with the number of images.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.boxes import check_masks, predicted_boxes
from maskerlib.classifiers import Classifier, frozen
from maskerlib.metrics import saliency_metric
from maskerlib.precision import autocast, resolve_precision
from maskerlib.references import Method, truth_map
from maskerlib.samples import Batch, Source, batches
from maskerlib.tally import COLUMNS, Tally

__all__ = ["check_saliency", "evaluate"]


def evaluate(
    methods: Mapping[str, Method],
    source: Source,
    classifier: Classifier,
    *,
    explained: Mapping[str, Classifier] | None = None,
    truth: bool = False,
    batch_size: int = 64,
    thresholds: Tensor | Sequence[float] | None = None,
    normalise: str = "none",
    precision: str = "auto",
    per_image: bool = False,
    progress: bool = False,
    workers: int = 0,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluate saliency methods on a source of images.

    Which classifier is used for what: a method is called as method(images, targets, explained.get(name,
    classifier)), and the class decision of OM and top1 is that classifier's too. SM always asks `classifier`,
    so that rows can be compared. The target is the label, or, for an image without one (-1), the class that
    the explained classifier predicts.

    What is shared by the data set and what is not: LE, OM, SM and "binarised" threshold each mask at its own
    mean. PxAP and MaxBoxAcc apply one grid of thresholds to all images; `normalise` concerns these alone (see
    `maskerlib.curves`).

    Args:
        methods: {row name: method}.
        source: images of one size, with labels, boxes and pixel masks as far as they are known.
        classifier: the evaluation classifier. Its device is the device of everything.
        explained: {row name: classifier}, for methods that explain another one, on the same device.
        truth: add the row "truth", the upper bound: the pixel masks as maps, or the boxes where a batch has
            images without a mask.
        batch_size: images that every method gets at once.
        thresholds: of MaxBoxAcc and of the sweep of LE, ascending in [0, 1); by default 0, 0.01, ..., 0.99.
        normalise: "none", or "minmax" to stretch each map to [0, 1] before PxAP and MaxBoxAcc.
        precision: "auto", "bf16" or "fp32", of methods and classifiers. The metrics are always fp32.
        per_image: also return the values of each image, for bootstraps. Memory then grows with their number.
        progress: show a bar.
        workers: processes that load images; 0 loads in this one.

    Returns:
        A table with one row a method and the columns of `maskerlib.tally.COLUMNS`. An image that lacks what a
        column needs (a label, a box) is left out of its mean. Where the whole source lacks it the value is
        NaN and `table.attrs["missing"][column]` gives the reason.

        `table.attrs` holds plain values, ready for JSON: images; images_with, {"label", "boxes", "mask":
        number of images; PxAP needs all masks, so the last is all or 0}; missing; classifier, {"name",
        "fingerprint"}; explained, {row: the same of its classifier}; thresholds; pixel_bins; normalise;
        precision; LE_sweep, {row: LE at each of the thresholds}.

        With per_image (table, rows): one row of values a method and image, with the name of the image.

    Raises:
        ValueError: for no images or no methods, a name in `explained` that is no method, a label that is not
            a class of the classifier, or a map that is not (B, 1, H, W), finite and in [0, 1].
    """
    explained = dict(explained or {})
    _check(methods, source, explained, truth)
    device = classifier.mean.device
    asked = {name: explained.get(name, classifier) for name in [*methods, *(["truth"] if truth else [])]}
    networks = {id(network): network for network in asked.values()}
    tallies = {name: Tally(thresholds, normalise) for name in asked}
    scores: list[pd.DataFrame] = []
    done = 0

    with contextlib.ExitStack() as stack:
        for network in (classifier, *networks.values()):
            stack.enter_context(frozen(network))
        bar = tqdm(total=len(source), desc="evaluate", unit="image", disable=not progress)
        stack.enter_context(bar)
        for batch in batches(source, batch_size, workers=workers):
            batch = batch.to(device)
            # Each classifier looks once at each clean image, however many methods explain it.
            with autocast(precision, device), torch.no_grad():
                logits = {key: network(batch.images) for key, network in networks.items()}
            for name, tally in tallies.items():
                network, clean = asked[name], logits[id(asked[name])]
                targets = _targets(batch, clean, network)
                if name in methods:
                    with autocast(precision, device):
                        maps = methods[name](batch.images, targets, network)
                else:
                    maps = _truth(batch)
                maps = check_saliency(maps, batch.images, name)
                boxes = predicted_boxes(maps)
                with autocast(precision, device):
                    sm = saliency_metric(batch.images, boxes, targets, classifier)
                values = tally.update(batch, maps, boxes, clean, sm)
                if per_image:
                    scores.append(_rows(name, values, batch.names, done))
            done += len(batch)
            bar.update(len(batch))

    results = [tally.result() for tally in tallies.values()]
    table = pd.DataFrame(results, index=pd.Index(tallies, name="method"), columns=list(COLUMNS))
    table.attrs = {
        **next(iter(tallies.values())).describe(),
        "classifier": _identity(classifier),
        "explained": {name: _identity(network) for name, network in asked.items()},
        "precision": resolve_precision(precision, device),
        "LE_sweep": {name: tally.le_sweep() for name, tally in tallies.items()},
    }
    return (table, pd.concat(scores).loc[list(asked)]) if per_image else table


def check_saliency(maps: Any, images: Tensor, name: str) -> Tensor:
    """The maps of a method as float32 on the device of the images, without graph, clamped to [0, 1].

    Raises ValueError, naming the method, when they are not a tensor (B, 1, H, W) of the images' size, or not
    in [0, 1] up to rounding (`maskerlib.boxes.check_masks`).
    """
    shape = (len(images), 1, *images.shape[-2:])
    if not isinstance(maps, Tensor) or tuple(maps.shape) != shape:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"method {name!r}: returned {got}, expected a tensor {shape}, one map an image")
    maps = maps.detach().to(images.device, torch.float32)
    check_masks(maps, f"method {name!r}")
    return maps.clamp(0, 1)


def _check(
    methods: Mapping[str, Method], source: Source, explained: Mapping[str, Classifier], truth: bool
) -> None:
    if not len(source):
        raise ValueError("the source has 0 images, expected 1 or more: no metric can be computed")
    if not methods and not truth:
        raise ValueError("there are 0 methods to evaluate; give {name: method}, or truth=True")
    if truth and "truth" in methods:
        raise ValueError("a method is called 'truth', the row that truth=True adds; rename the method")
    for name in explained:
        if name not in methods:
            known = ", ".join(methods)
            raise ValueError(f"explained has {name!r}, which is no method; the methods are {known}")


def _targets(batch: Batch, logits: Tensor, network: Classifier) -> Tensor:
    """The label of each image, or what the explained classifier predicts where there is none."""
    classes = logits.shape[1]
    if batch.labels.max() >= classes:
        name, label = batch.names[int(batch.labels.argmax())], int(batch.labels.max())
        raise ValueError(f"{name}: label {label}; {network.name} has classes 0 to {classes - 1}; use these")
    return torch.where(batch.labels >= 0, batch.labels, logits.argmax(dim=1))


def _truth(batch: Batch) -> Tensor:
    if batch.masks is None:
        for boxes, name in zip(batch.boxes, batch.names, strict=True):
            if not len(boxes):
                raise ValueError(f"{name} has neither mask nor box, so it has no truth; leave out truth=True")
    return truth_map(batch.masks, batch.boxes, batch.images.shape[-2:])


def _identity(classifier: Classifier) -> dict[str, str]:
    return {"name": classifier.name, "fingerprint": classifier.fingerprint()}


def _rows(method: str, values: Mapping[str, Tensor], names: Sequence[str], start: int) -> pd.DataFrame:
    numbers = range(start, start + len(names))
    index = pd.MultiIndex.from_product([[method], numbers], names=["method", "image"])
    columns = {key: value.numpy() for key, value in values.items()}
    return pd.DataFrame({"name": list(names), **columns}, index=index)
