"""The ten programs of examples/README.md: each is short, and each runs in a folder that holds what it names."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskerlib.classifiers.registry import classifier_named

PAGE = (Path(__file__).parents[1] / "examples" / "README.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## (\d+\. [^\n]+)\n.*?^```python\n(.*?)^```", PAGE, flags=re.M | re.S))
LONGEST = 8  # lines without imports


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`my_photos` with six images, `my_images` with three of cats and three of dogs, and weights for those two classes."""
    folder = tmp_path_factory.mktemp("examples")
    generator = np.random.default_rng(0)
    for number in range(6):
        image = Image.fromarray(generator.integers(0, 256, (90, 120, 3), dtype=np.uint8)).resize((120, 90), box=(0, 0, 12, 9))
        for path in (folder / "my_photos", folder / "my_images" / ("cat", "dog")[number % 2]):
            path.mkdir(parents=True, exist_ok=True)
            image.save(path / f"{number}.png")
    network = classifier_named("torchvision:resnet18", class_names=("cat", "dog")).network
    torch.save(network.state_dict(), folder / "resnet18.pth")
    return folder


def test_there_are_ten_none_of_them_long():
    assert [title.partition(".")[0] for title in PROGRAMS] == [str(number) for number in range(1, 11)]
    for title, program in PROGRAMS.items():
        tree = ast.parse(program)
        lines = {
            line
            for node in tree.body
            if not isinstance(node, ast.Import | ast.ImportFrom)
            for line in range(node.lineno, node.end_lineno + 1)
        }
        assert len(lines) <= LONGEST, f"{title} has {len(lines)} lines without imports"


@pytest.mark.parametrize("title", PROGRAMS)
def test_program(title, place, monkeypatch, capsys):
    if "timm:" in PROGRAMS[title]:
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    exec(compile(PROGRAMS[title], f"examples/README.md, {title}", "exec"), names)
    written = {"1": "explained.png", "6": "runs/mine/masker.pt", "9": "maps.npy"}.get(title.partition(".")[0])
    assert written is None or (place / written).stat().st_size > 0
    if "table" in names:
        assert names["table"]["SM"].notna().all()
    for name in ("masks", "maps"):
        if name in names:
            assert torch.is_tensor(names[name]) and 0 <= names[name].min() < names[name].max() <= 1
    assert ("print" in PROGRAMS[title]) == bool(capsys.readouterr().out)
