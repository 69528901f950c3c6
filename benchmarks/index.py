"""How long a start on a data set of ImageNet's size takes, and how much memory: the first, and one from the list that it left.

The records are made up: 1.28 million names as ImageNet has them, one box in two, and one file that stands for all images, so
that it is asked for as often as there are images. Reading directories and XML files comes on top, once. Each start is a process
of its own.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timing import apart, arguments, peak_memory

from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.record import DataSet, Record
from maskerlib.running.files import write_json
from maskerlib.running.provenance import provenance

__all__ = ["made_up", "main", "start"]

_CLASSES = 1000


def made_up(root: Path, count: int) -> DataSet:
    """A data set of `count` records, of which every one has the file `root` / "image.JPEG"."""
    (root / "image.JPEG").touch()

    def records() -> Iterator[Record]:
        for number in range(count):
            label = number * _CLASSES // count
            boxes = ((1.0, 2.0, 300.0, 200.0),) if number % 2 else ()
            yield Record("image.JPEG", label, boxes=boxes, name=f"train/n{label:08d}/n{label:08d}_{number}.JPEG")

    names = [f"class {label}" for label in range(_CLASSES)]
    return DataSet(root, lambda: (names, records()), (), ("made-up", str(count)))


def start(root: Path, count: int) -> dict[str, Any]:
    """Seconds and MB of opening that data set as a source, in this process; its list is kept in `root`."""
    data, sources = made_up(root, count), list[Indexed]()
    begin, processor = time.perf_counter(), time.process_time()
    memory = peak_memory(lambda: sources.append(Indexed(data, index=root / "index")), torch.device("cpu"))
    seconds = {"wall": time.perf_counter() - begin, "processor": time.process_time() - processor}
    return {"seconds": seconds, "MB": memory, "images": len(sources[0]), "last": sources[0].records[count - 1].name}


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/index.json")
    parser.add_argument("--images", type=int, default=1_281_167, help="records: as many as ImageNet has to train on")
    parser.add_argument("--in", dest="root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.root:
        print(json.dumps(start(options.root, options.images)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        asked = ["--images", str(options.images), "--in", folder]
        found = {name: apart(name, __file__, *asked) for name in ("first start", "from the list")}
        kept = sum(path.stat().st_size for path in (root / "index").iterdir()) / 2**20
    result = {
        **found,
        "MB of the list": kept,
        "settings": {"images": options.images},
        "provenance": provenance(seeds=[]),
    }
    write_json(options.out, result)
    print(f"a start on {options.images:,} images; their list is a file of {kept:.0f} MB")
    for name, one in found.items():
        memory = "?" if one["MB"] is None else f"{one['MB']:.0f}"
        seconds = one["seconds"]
        print(f"  {name}: {seconds['wall']:.2f} s ({seconds['processor']:.2f} s of processor), {memory} MB at the most")
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
