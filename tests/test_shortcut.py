"""The planted shortcut: marks that tell the classes apart, beside the object, as the arguments say and no other way."""

import pytest
import torch
from tiny import Squares

from maskerlib.course.shortcut import ANSWERS, CARRIES, Marked, draw_mark, mask_by_region
from maskerlib.data.samples import Batch, Sample, Source, Subset
from maskerlib.data.scenes.glyphs import CLASSES
from maskerlib.data.scenes.source import Scenes

COUNT = 64


class Discs(Source):
    """Grey images with one known object each: (top, left, bottom, right) of a white rectangle."""

    def __init__(self, rectangles: list[tuple[int, int, int, int]], size: int = 40, masks: bool = True) -> None:
        self.rectangles, self.size, self.known = rectangles, (size, size), masks
        self.class_names = ("a", "b", "c")
        self.labels = torch.arange(len(rectangles)) % 3

    def __len__(self) -> int:
        return len(self.rectangles)

    def __getitem__(self, index: int) -> Sample:
        top, left, bottom, right = self.rectangles[index]
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[top:bottom, left:right] = True
        box = torch.tensor([[left, top, right, bottom]], dtype=torch.float32)
        image = torch.full((3, *self.size), 0.5)
        image[:, mask] = 1.0
        return Sample(image, int(self.labels[index]), box, mask if self.known else None, f"disc {index}")


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes("val", count=COUNT, cache=None)


def everything(source: Source) -> Batch:
    return source.batch(range(len(source)))


class TestMark:
    def test_sixteen_marks_of_which_every_two_differ_clearly(self):
        marks = torch.stack([draw_mark(label) for label in range(len(CLASSES))])
        assert marks.shape == (16, 3, 16, 16) and marks.min() >= 0 and marks.max() <= 1
        apart = torch.cdist(marks.flatten(1), marks.flatten(1), p=1) / marks[0].numel()
        assert apart[~torch.eye(16, dtype=torch.bool)].min() > 0.1  # of a range of 1, averaged over the pixels

    def test_stripes_two_pixels_high_that_a_mirror_leaves_alone(self):
        mark = draw_mark(6, 12)
        assert torch.equal(mark, mark.flip(2))
        rows = mark[:, :, 0].T
        assert [int(torch.equal(row, rows[0])) for row in rows] == [1, 1, 0, 0] * 3

    def test_the_two_colours_are_the_class(self):
        first = {tuple(draw_mark(label)[:, 2, 0].tolist()) for label in range(16)}
        second = {tuple(draw_mark(label)[:, 0, 0].tolist()) for label in range(16)}
        assert len(first) == len(second) == 4 and not first & second

    @pytest.mark.parametrize("arguments", [(16,), (-1,), (0, 3)])
    def test_no_such_mark(self, arguments):
        with pytest.raises(ValueError, match="no mark|side=3"):
            draw_mark(*arguments)


class TestPlace:
    def test_the_mark_is_where_its_box_says_and_nothing_else_changed(self, scenes):
        marked = Marked(scenes, seed=3)
        before, after, marks = everything(scenes), everything(marked), marked.mark_masks(range(COUNT))
        assert (marks.sum(dim=(1, 2)) == 256).all()
        changed = (before.images != after.images).any(dim=1)
        assert not (changed & ~marks).any()
        for image, mark, label in zip(after.images, marks, marked.labels, strict=True):
            assert torch.equal(image[:, mark].view(3, 16, 16), draw_mark(int(label)))
        x0, y0, x1, y1 = marked.mark_boxes.T
        assert (x1 - x0 == 16).all() and (y1 - y0 == 16).all() and x0.min() >= 0 and x1.max() <= 96 and y1.max() <= 96

    def test_it_keeps_its_margin_from_the_object_wherever_it_can(self, scenes):
        objects = everything(scenes).masks
        close = {}
        for margin in (0, 4):
            marks = Marked(scenes, margin=margin).mark_masks(range(COUNT))
            near = torch.nn.functional.max_pool2d(marks[:, None].float(), 9, 1, 4)[:, 0] > 0
            assert not (marks & objects).any()  # every scene of this level leaves room for a mark
            close[margin] = int((near & objects).any(dim=(1, 2)).sum())
        assert close[4] <= 0.1 * COUNT < close[0]

    def test_the_only_place_there_is(self):
        # the object leaves a corner of 12 x 12 pixels: a mark of 8 with a margin of 4 has one place only
        source = Discs([(0, 0, 28, 40), (0, 0, 40, 28)])
        wall = Marked(source, side=8, margin=4)
        assert wall.mark_boxes[0, 1] == 32 and wall.mark_boxes[1, 0] == 32
        source = Discs([(0, 0, 40, 40)] * 2)
        assert (everything(Marked(source, side=8)).masks.sum(dim=(1, 2)) == 40 * 40 - 64).all()

    def test_what_it_must_cover_is_not_the_objects_any_more(self):
        source = Discs([(0, 0, 40, 39)])  # one column is free, and the mark needs eight
        batch = everything(Marked(source, side=8, margin=0))
        assert int(batch.masks.sum()) == 40 * 39 - 8 * 7
        assert batch.boxes[0].tolist() == [[0, 0, 39, 40]]
        thin = everything(Marked(Discs([(0, 0, 8, 8)], size=8), side=8))
        assert thin.boxes[0].shape == (0, 4) and not thin.masks.any()

    def test_places_are_spread_evenly(self):
        source = Discs([(0, 0, 1, 1)] * 600)
        boxes = Marked(source, side=8, margin=0).mark_boxes
        for start in (boxes[:, 0], boxes[:, 1]):
            assert start.mean() == pytest.approx(16, abs=1.2) and start.min() <= 1 and start.max() == 32

    def test_a_scene_does_not_depend_on_the_others(self, scenes):
        whole, part = Marked(scenes, seed=5), Marked(Subset(scenes, range(20)), seed=5)
        assert torch.equal(whole.mark_boxes[:20], part.mark_boxes)
        assert torch.equal(everything(part).images, whole.batch(range(20)).images)
        assert torch.equal(whole[7].image, whole.batch([3, 7]).images[1]) and whole[-1].name == whole[COUNT - 1].name
        assert not torch.equal(whole.mark_boxes, Marked(scenes, seed=6).mark_boxes)


class TestClasses:
    def test_which_class_the_mark_stands_for(self, scenes):
        own, other, random = (Marked(scenes, carries=carries).mark_labels for carries in CARRIES)
        assert torch.equal(own, scenes.labels)
        assert (other != scenes.labels).all() and len(set(((other - scenes.labels) % 16).tolist())) == 15
        assert 0 < (random == scenes.labels).sum() < 0.2 * COUNT and len(set(random.tolist())) > 12

    def test_what_the_label_names(self, scenes):
        by_object, by_mark = (Marked(scenes, carries="random", answer=answer) for answer in ANSWERS)
        assert torch.equal(by_object.labels, scenes.labels) and torch.equal(by_mark.labels, by_mark.mark_labels)
        assert torch.equal(everything(by_object).images, everything(by_mark).images)
        assert torch.equal(everything(by_mark).labels, by_mark.labels) and by_mark[2].label == int(by_mark.labels[2])

    def test_how_many_bear_one(self, scenes):
        half = Marked(scenes, probability=0.5, carries="other", answer="mark")
        bare = half.mark_labels < 0
        assert 0.35 * COUNT < bare.sum() < 0.65 * COUNT
        assert torch.equal(half.labels[bare], scenes.labels[bare]) and (half.labels != scenes.labels)[~bare].all()
        assert torch.equal(everything(half).images[bare], everything(scenes).images[bare])
        assert (half.mark_boxes[bare] == 0).all()
        assert not half.mark_masks(bare.nonzero()[:, 0]).any()
        none = Marked(scenes, probability=0)
        assert torch.equal(everything(none).images, everything(scenes).images) and (none.mark_labels == -1).all()

    def test_the_source_is_left_as_it_was(self, scenes):
        before = everything(scenes)
        everything(Marked(scenes, carries="other", answer="mark"))
        after = everything(scenes)
        assert torch.equal(before.images, after.images) and torch.equal(before.masks, after.masks)
        assert torch.equal(before.labels, after.labels)


@pytest.mark.parametrize(
    "options",
    [{"probability": 1.5}, {"carries": "wrong"}, {"answer": "both"}, {"side": 2}, {"side": 100}, {"margin": -1}],
)
def test_an_impossible_argument_is_named(scenes, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        Marked(scenes, **options)


def test_an_unsuitable_source_is_refused():
    with pytest.raises(ValueError, match="give a labelled source"):
        Marked(Squares(labelled=False), side=4)
    with pytest.raises(ValueError, match="pixel mask for every image"):
        Marked(Discs([(0, 0, 4, 4)], masks=False), side=4)


class TestByRegion:
    def test_by_hand(self):
        mask = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
        left = torch.tensor([[[True, False], [True, False]]] * 2)
        value, share = mask_by_region(mask, left)
        assert value.tolist() == [0.25, 0.0] and share[0] == 0.25 and share[1].isnan()
        nowhere = torch.zeros(2, 2, 2, dtype=torch.bool)
        value, share = mask_by_region(mask, nowhere)
        assert value.isnan().all() and share[0] == 0

    def test_regions_that_make_up_the_image_share_the_mass(self, scenes):
        masks, objects = torch.rand(8, 1, 96, 96), scenes.batch(range(8)).masks
        (inside, first), (outside, rest) = mask_by_region(masks, objects), mask_by_region(masks, ~objects)
        torch.testing.assert_close(first + rest, torch.ones(8))
        pixels = objects.float().mean(dim=(1, 2))
        torch.testing.assert_close(inside * pixels + outside * (1 - pixels), masks.mean(dim=(1, 2, 3)))
