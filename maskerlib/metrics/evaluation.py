"""`evaluate`: every metric, for several methods, over a data set, in one table.

The images are read once, a batch at a time, and every method sees the same batch. What is kept are sums and
histograms (`maskerlib.metrics.tally`), so memory does not grow with the number of images. Several processes
(`maskerlib.running.distributed`) share the batches, and each returns the whole table, that of one process to the last count.
"""

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, Unpack, overload

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, check_classifier, check_images
from maskerlib.data.samples import Batch, Source, batches
from maskerlib.methods.asking import (
    ask,
    check_saliency,
    clean_logits,
    explained_by,
    known_labels,
    posed,
    to_explain,
    translated,
)
from maskerlib.methods.entry import Unsupported
from maskerlib.methods.saved_maps import Maps, map_reader
from maskerlib.metrics.entry import Metric
from maskerlib.metrics.evidence import Evidence
from maskerlib.metrics.registry import columns, requested
from maskerlib.metrics.tally import Tally, missing_of
from maskerlib.metrics.truth import truth_map
from maskerlib.running.distributed import first, gathered, rank, share, world
from maskerlib.running.precision import resolve_precision
from maskerlib.running.progress import report

__all__ = ["check_saliency", "evaluate"]


class _Options(TypedDict, total=False):
    explained: Mapping[str, Classifier] | None
    targets: str
    truth: bool
    batch_size: int
    thresholds: Tensor | Sequence[float] | None
    normalise: str
    protocol: str
    resize: str
    precision: str
    metrics: str | Metric | Sequence[str | Metric]
    progress: bool
    workers: int


@overload
def evaluate(
    methods: Mapping[str, Method | Maps],
    source: Source,
    classifier: Classifier,
    *,
    per_image: Literal[False] = ...,
    **options: Unpack[_Options],
) -> pd.DataFrame: ...


@overload
def evaluate(
    methods: Mapping[str, Method | Maps],
    source: Source,
    classifier: Classifier,
    *,
    per_image: Literal[True],
    **options: Unpack[_Options],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...


def evaluate(
    methods: Mapping[str, Method | Maps],
    source: Source,
    classifier: Classifier,
    *,
    explained: Mapping[str, Classifier] | None = None,
    targets: str = "labels",
    truth: bool = False,
    batch_size: int = 64,
    thresholds: Tensor | Sequence[float] | None = None,
    normalise: str = "none",
    protocol: str = "maskerlib",
    resize: str = "antialias",
    precision: str = "auto",
    metrics: str | Metric | Sequence[str | Metric] = (),
    per_image: bool = False,
    progress: bool = False,
    workers: int = 0,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluate saliency methods on a source of images.

    Which classifier is used for what: a method is asked about `explained[name]`; where that is not given, about the classifier
    that it carries (its attribute `classifier`, as `maskerlib.masker.trained.Trained` has), else about `classifier`. It is
    called as method(images, targets, that classifier), and the class decision of OM and top1 is that classifier's too. SM
    always asks `classifier`, so that rows can be compared. With a sigmoid head each class is its own yes or no, here as
    everywhere.

    Which classes: labels count the classes of the source, and are matched with those of each classifier by name
    (`maskerlib.classifiers.doors.aligned`). An image without a label (-1) is explained for the class that the explained
    classifier predicts, and with targets="predicted" so is every image.

    What is shared by the data set and what is not: LE, OM, SM and "binarised" threshold each mask at its own
    mean. PxAP and MaxBoxAcc apply one grid of thresholds to all images; `normalise` concerns these alone (see
    `maskerlib.metrics.curves`).

    Args:
        methods: {row name: method}; or, in place of a method, maps that were drawn before, one for each image of the source: an
            array or tensor (N, 1, H, W) or (N, H, W), the path of a .npy file of one, or of a folder of files
            (`maskerlib.methods.saved_maps`).
        source: images of one size, with labels, boxes and pixel masks as far as they are known.
        classifier: the evaluation classifier. Metrics are computed on its device; each method and each explained
            classifier gets the batch on the device of its own.
        explained: {row name: classifier}, for methods that explain another one.
        targets: "labels" or "predicted", see above. OM and top1 compare with the labels either way, as far as they are known.
        truth: add the row "truth", the upper bound: the pixel masks as maps, or the boxes where a batch has
            images without a mask.
        batch_size: images that every method gets at once.
        thresholds: of MaxBoxAcc and of the sweep of LE, ascending in [0, 1); by default 0, 0.01, ..., 0.99.
        normalise: "none", or "minmax" to stretch each map to [0, 1] before PxAP and MaxBoxAcc.
        protocol: whose rules MaxBoxAcc and the sweep follow, one of `maskerlib.metrics.curves.PROTOCOLS`.
        resize: how SM resizes its crops, one of `maskerlib.metrics.per_image.RESIZES`.
        precision: "auto", "bf16" or "fp32", of methods and classifiers. The metrics are always fp32.
        metrics: further columns, which cost passes: "insertion", "deletion", "SRG", "pointing"
            (`maskerlib.metrics.registry.ON_REQUEST`), or a metric with options of its own, such as
            `maskerlib.metrics.removal.deletion(steps=224)`. Like SM they ask `classifier` about the class that was explained;
            the published ones ask the explained classifier about the class that it predicts, with targets="predicted".
        per_image: also return the values of each image, for bootstraps. Memory then grows with their number.
        progress: show a bar.
        workers: processes that load images; 0 loads in this one.

    Returns:
        A table with one row a method and the columns of `maskerlib.metrics.registry.columns`. An image that lacks what a
        column needs (a label, a box; for SM a class that `classifier` knows) is left out of its mean. Where the whole
        source lacks it the value is NaN and `table.attrs["missing"][column]` gives the reason. A metric of one's own is a
        column as soon as it is made (`maskerlib.metrics.registry.metric`). Those of `metrics` follow the others of their kind.

        A method that has no rule for something the network does (`maskerlib.methods.entry.Unsupported`: LRP, DeepLIFT and guided
        backpropagation say so) stops no other: there is one UserWarning, its row is NaN, that of each image as well, and
        `table.attrs["unsupported"][name]` gives the reason.

        `table.attrs` holds plain values, ready for JSON: images; images_with, {"label", "boxes", "mask":
        number of images; PxAP needs all masks, so the last is all or 0}; missing; unsupported; classifier, {"name",
        "fingerprint"}; explained, {row: the same of its classifier}; targets; thresholds; pixel_bins; normalise;
        protocol; resize; precision; LE_sweep, {row: LE at each of the thresholds}; and with `metrics`, requested,
        {column: what it rests on (steps, infill, seed, tolerance), and the passes that it costs an image}.

        With per_image (table, rows): one row of values a method and image, with the name of the image.

    Raises:
        ValueError: for no images or no methods, a name in `explained` that is no method, labels that do not suit a classifier
            or a classifier that returns no logits (`maskerlib.classifiers.doors`), images that are not in [0, 1], a method that
            changes them in place, a map that is not (B, 1, H, W), finite and in [0, 1], maps that are not one for each image,
            or a metric that is unknown or called like another column.
    """
    explained = dict(explained or {})
    _check(methods, explained, truth)
    further = requested(metrics)
    device = classifier.mean.device
    asked = {name: explained.get(name) or explained_by(method, classifier) for name, method in methods.items()}
    asked |= {"truth": classifier} if truth else {}
    networks = {id(network): network for network in asked.values()}
    everyone = networks | {id(classifier): classifier}
    known = {key: known_labels(source, network, targets) for key, network in everyone.items()}
    callables = {name: method for name, method in methods.items() if callable(method)}
    readers = {
        name: map_reader(method, source, name=name, classifier=asked[name], targets=targets)
        for name, method in methods.items()
        if not callable(method)
    }
    for network in everyone.values():
        check_classifier(network)
    tallies = {
        name: Tally(thresholds, normalise, protocol, known[id(network)][1], further) for name, network in asked.items()
    }
    scores: list[tuple[int, pd.DataFrame]] = []

    with contextlib.ExitStack() as stack:
        for network in everyone.values():
            stack.enter_context(frozen(network))
        bar = tqdm(total=len(source), desc="evaluate", unit="image", disable=not (progress and first()))
        stack.enter_context(bar)
        for number, batch in enumerate(batches(source, batch_size, workers=workers, device=device, part=share())):
            done = batch_size * (rank() + number * world())  # images before these, whoever sees them
            batch = batch.to(device)
            for network in everyone.values():
                check_images(batch.images, network, batch.names)
            labels = {key: own[done : done + len(batch)].to(device) for key, (own, _) in known.items()}
            # Each classifier looks once at each clean image, however many methods explain it.
            logits = {key: clean_logits(network, batch.images, precision) for key, network in networks.items()}
            for name, tally in tallies.items():
                network, key = asked[name], id(asked[name])
                classes = to_explain(labels[key], logits[key], network, targets)
                if tally.refused:
                    maps = torch.zeros_like(batch.images[:, :1])  # none is looked at
                elif name in readers:
                    maps = check_saliency(readers[name](done, batch.names), batch.images, name)
                elif name in callables:
                    try:
                        maps = ask(name, callables[name], batch.images, classes, network, precision)
                    except Unsupported as error:
                        if first():
                            warnings.warn(f"method {name!r} is left out, its row is NaN: {error}", UserWarning, stacklevel=2)
                        tally.refuse(str(error))
                        maps = torch.zeros_like(batch.images[:, :1])
                else:
                    maps = check_saliency(_truth(batch), batch.images, name)
                heard = translated(classes, network, classifier)
                if targets == "labels":
                    heard = torch.where(labels[id(classifier)] >= 0, labels[id(classifier)], heard)
                question, answers = posed(labels[key], logits[key], network)
                seen = Evidence(
                    images=batch.images,
                    maps=maps,
                    boxes=batch.boxes,
                    masks=batch.masks,
                    question=question,
                    answers=answers,
                    classes=heard,
                    classifier=classifier,
                    ignores=batch.ignores,
                    resize=resize,
                    precision=precision,
                )
                values = tally.update(seen)
                if per_image:
                    scores.append((done, _rows(name, values, batch.names, done)))
            if first():
                seen_by_all = min(done + len(batch) * world(), len(source))  # the others are as far, or nearly
                bar.update(seen_by_all - bar.n)
                report("evaluate", seen_by_all, len(source))
    if world() > 1:
        for tally in tallies.values():
            tally.pool(gathered(tally.state()))
        scores = sorted(sum(gathered(scores), []), key=lambda each: each[0])

    unsupported = {name: tally.refused for name, tally in tallies.items() if tally.refused}
    results = [tally.result() for tally in tallies.values()]
    table = pd.DataFrame(results, index=pd.Index(tallies, name="method"), columns=list(columns(further)))
    table.attrs = {
        **next(iter(tallies.values())).describe(),
        "missing": missing_of(tallies),
        "unsupported": unsupported,
        "classifier": _identity(classifier),
        "explained": {name: _identity(network) for name, network in asked.items()},
        "targets": targets,
        "resize": resize,
        "precision": resolve_precision(precision, device),
        "LE_sweep": {name: tally.le_sweep() for name, tally in tallies.items()},
    } | ({"requested": {name: dict(each.rests_on) for name, each in further.items()}} if further else {})
    if not per_image:
        return table
    rows = pd.concat([values for _, values in scores]).loc[list(asked)]
    rows.loc[rows.index.isin(list(unsupported), level="method"), rows.columns != "name"] = math.nan
    return table, rows


def _check(methods: Mapping[str, Method | Maps], explained: Mapping[str, Classifier], truth: bool) -> None:
    if not isinstance(methods, Mapping):
        raise ValueError(f"methods: {type(methods).__name__}, expected {{name: method}}, such as {{'Grad-CAM': grad_cam()}}")
    if not methods and not truth:
        raise ValueError("there are 0 methods to evaluate; give {name: method}, or truth=True")
    if truth and "truth" in methods:
        raise ValueError("a method is called 'truth', the row that truth=True adds; rename the method")
    for name in explained:
        if name not in methods:
            known = ", ".join(methods)
            raise ValueError(f"explained has {name!r}, which is no method; the methods are {known}")


def _truth(batch: Batch) -> Tensor:
    if batch.masks is None:
        for boxes, name in zip(batch.boxes, batch.names, strict=True):
            if not len(boxes):
                raise ValueError(f"{name} has neither mask nor box, so it has no truth; leave out truth=True")
    return truth_map(batch.masks, batch.boxes, (batch.images.shape[-2], batch.images.shape[-1]))


def _identity(classifier: Classifier) -> dict[str, str]:
    return {"name": classifier.name, "fingerprint": classifier.fingerprint()}


def _rows(method: str, values: Mapping[str, Tensor], names: Sequence[str], start: int) -> pd.DataFrame:
    numbers = range(start, start + len(names))
    index = pd.MultiIndex.from_product([[method], numbers], names=["method", "image"])
    columns = {key: value.numpy() for key, value in values.items()}
    return pd.DataFrame({"name": list(names), **columns}, index=index)
