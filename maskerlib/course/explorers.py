"""Three widgets for the notebooks: of the mask, of the threshold, of the layers.

Each is a row of controls above a picture. What it shows is one of the plain functions of `explorer_pictures`, called anew
whenever a control changes; nothing else happens in a callback.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.course.explorer_pictures import affordable, layer_picture, mask_controls, mask_picture, threshold_picture
from maskerlib.masker.trained import Trained
from maskerlib.training.loop import Diverged

__all__ = ["Explorer", "layer_explorer", "mask_explorer", "threshold_explorer"]

_LONG = {"description_width": "9em"}


class Explorer(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Controls above the picture that they decide.

    picture: takes the values of the controls by name and returns a figure; a ValueError becomes a line of text, and so does a
        search that diverged.
    controls: {name: widget with a value}.
    """

    def __init__(self, picture: Callable[..., Figure], controls: Mapping[str, ipywidgets.Widget]) -> None:
        self.picture, self.controls = picture, dict(controls)
        self.image = ipywidgets.Image(format="jpeg")
        self.message = ipywidgets.Label()
        for control in self.controls.values():
            control.observe(self.update, names="value")
        pairs = list(self.controls.values())
        rows = [ipywidgets.HBox(pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
        super().__init__([*rows, self.message, self.image])
        self.add_class("maskerlib-explorer")
        self.update()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget and, for readers without a kernel, its picture."""
        bundle = super()._repr_mimebundle_(**options)
        still = base64.b64encode(self.image.value).decode()
        return {**bundle, "image/jpeg": still, "text/plain": "an explorer: run this cell to move its controls"}

    def update(self, change: object = None) -> None:
        """Draw the picture of the controls' present values."""
        self.message.value = "drawing ..."
        try:
            figure = self.picture(**{name: control.value for name, control in self.controls.items()})
        except (ValueError, Diverged) as error:
            self.message.value = str(error)
            return
        self.image.value = _jpeg(figure)
        self.message.value = ""


def _jpeg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=100)
    return buffer.getvalue()


def mask_explorer(
    classifier: Classifier, images: Tensor, names: Sequence[str], *, steps: int = 40, seed: int = 0
) -> Explorer:
    """A method, and the weights of equation 1 -> the mask of an image, found anew at each change; see `mask_picture`.

    The methods are those of the registry that answer while a person waits (`affordable`). What does not concern the chosen one
    is disabled.

    images: (B, 3, H, W) in [0, 1], with one name an image.  steps: updates of equation 1.  seed: of what a method draws.
    """
    method = ipywidgets.Dropdown(
        description="method", options=affordable((images.shape[-2], images.shape[-1])), value="optimise", style=_LONG
    )

    def picture(photo: int, **chosen: Any) -> Figure:
        return mask_picture(classifier, images[photo], steps=steps, seed=seed, **chosen)

    def weight(text: str, value: float, most: float) -> ipywidgets.FloatSlider:
        return _slider(ipywidgets.FloatSlider, text, value=value, min=0, max=most, step=most / 20)

    controls = {
        "photo": _choice("image", names),
        "method": method,
        "weight_in": weight("masked-in", 1.0, 2.0),
        "weight_out": weight("masked-out", 1.0, 2.0),
        "size_in": weight("size, in", 1.0, 10.0),
        "size_out": weight("size, out", 5.0, 20.0),
        "tv": _steps("smoothness", (0.0, 0.003, 0.01, 0.03, 0.1, 0.3), 0.03),
        "grid": _steps("cells a side", (4, 7, 14, 28, 56), 14),
    }

    def concern(change: dict[str, Any]) -> None:
        for name in controls.keys() - {"photo", "method"}:
            controls[name].disabled = name not in mask_controls(change["new"])

    method.observe(concern, names="value")  # before the explorer's own, which takes seconds
    return Explorer(picture, controls)


def threshold_explorer(
    images: Tensor, maps: Mapping[str, Tensor], masks: Tensor, boxes: Sequence[Tensor]
) -> Explorer:
    """A threshold -> the set above it, its largest component, the box and its IoU, and precision and recall.

    images: (B, 3, H, W).  maps: {method: (B, 1, H, W)}.  masks: (B, H, W) bool, the truth.  boxes: B tensors (K, 4), of
    which the first is taken. See `threshold_picture`.
    """

    def picture(image: int, method: str, threshold: float) -> Figure:
        return threshold_picture(images[image], maps[method][image], masks[image], boxes[image][0], threshold)

    controls = {
        "image": _choice("image", [f"image {i}" for i in range(len(images))]),
        "method": ipywidgets.Dropdown(description="map", options=list(maps), style=_LONG),
        "threshold": _slider(ipywidgets.FloatSlider, "threshold", value=0.5, min=0, max=0.99, step=0.01),
    }
    return Explorer(picture, controls)


def layer_explorer(trained: Trained, images: Tensor, names: Sequence[str]) -> Explorer:
    """A layer and a channel -> its activation, what the layer adds to the mask, and the mask. See `layer_picture`.

    images: (B, 3, H, W) in [0, 1], with one name an image. Channel 0 on the slider is the mean over all channels.
    """
    channels = trained.classifier.layer_channels()
    layer = ipywidgets.Dropdown(description="layer", options=list(channels), style=_LONG)
    layer.value = trained.masker.layers[-1]
    number = _slider(ipywidgets.IntSlider, "channel (0: mean)", value=0, min=0, max=channels[layer.value])

    def picture(image: int, layer: str, channel: int) -> Figure:
        return layer_picture(trained, images[image], layer, min(channel, channels[layer]) - 1 if channel else None)

    explorer = Explorer(picture, {"image": _choice("image", names), "layer": layer, "channel": number})
    layer.observe(lambda change: setattr(number, "max", channels[change["new"]]), names="value")
    return explorer


def _choice(text: str, names: Sequence[str]) -> ipywidgets.Dropdown:
    """A choice among images by name; its value is the index."""
    return ipywidgets.Dropdown(description=text, options=[(name, i) for i, name in enumerate(names)], value=0, style=_LONG)


def _steps(text: str, options: Sequence[float], value: float) -> ipywidgets.SelectionSlider:
    return _slider(ipywidgets.SelectionSlider, text, options=list(options), value=value)


def _slider(kind: type, text: str, **options: Any) -> Any:
    """A slider that reports when it is let go, not while it moves."""
    return kind(description=text, continuous_update=False, style=_LONG, **options)
