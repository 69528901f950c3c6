"""The benchmarks run at a tiny size, refuse to compare steps that differ, and write what their README says.

No time is asserted: these tests must pass on the slowest machine.
"""

import argparse
import functools
import importlib
import mmap
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.data.scenes.source import Scenes
from maskerlib.running.files import read_json, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--network", "resnet18", "--size", "32", "--batch", "4", "--rounds", "1"]


@pytest.fixture
def script(monkeypatch):
    """Import a benchmark by its name, as Python does when it runs one: its own folder comes first."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def in_this_process(train_step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure memory without a new process, which takes seconds to start; one test below starts one."""
    monkeypatch.setattr(train_step, "step_memory_apart", train_step.step_memory)


def positive(*numbers: float) -> bool:
    return all(number > 0 for number in numbers)


# --- timing ---------------------------------------------------------------------------------------


def test_callables_take_turns_and_the_first_rounds_do_not_count(script):
    timing, order = script("timing"), []
    work = {name: functools.partial(order.append, name) for name in "ab"}
    times = timing.interleaved(work, 3, torch.device("cpu"), warm=2)
    assert order == ["a", "b"] * 5
    assert [len(times[name].wall) for name in "ab"] == [3, 3] == [len(times[name].processor) for name in "ab"]


def test_the_median_ignores_one_interruption(script):
    times = script("timing").Times(wall=[1.0, 9.0, 2.0], processor=[1.0, 1.0, 3.0])
    assert times.medians() == {"wall": 2.0, "processor": 1.0}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak cannot be reset")
def test_peak_memory_sees_what_was_freed_again_and_forgets_what_came_before(script):
    peak_memory = script("timing").peak_memory
    assert 60 < peak_memory(lambda: torch.ones(2**24).sum(), torch.device("cpu")) < 100  # 64 MB
    torch.ones(2**26).sum()
    assert peak_memory(lambda: None, torch.device("cpu")) < 30


# --- a training step ------------------------------------------------------------------------------


def test_a_training_step_is_measured_and_written(script, monkeypatch, tmp_path, device, capsys):
    train_step = script("train_step")
    in_this_process(train_step, monkeypatch)
    out = tmp_path / "train_step.json"
    train_step.main([*TINY, "--classes", "10", "--device", str(device), "--out", str(out)])
    result = read_json(out)
    for mode, judges in train_step.JUDGES.items():
        found = result[mode]
        wall = found["seconds"]["wall"]
        assert found["ratio"] == pytest.approx(wall["reference"] / wall["ours"]) and found["ratio"] > 0
        assert found["rounds"].keys() == {f"{side} {judge}" for side in wall for judge in judges}
        assert found["peak memory MB"].keys() == {"ours", "reference"}
        assert max(found["gradient difference"].values()) <= train_step.TOLERANCE
    assert result["CA"]["gradient difference"].keys() == {"masker", "classifier"}
    assert result["targets"] == {"FIX": 3.0, "CA": 2.5}
    assert result["targets apply"] == (result["precision"] == "bf16") == result["bfloat16 units"]
    assert result["settings"]["batch"] == 4 and result["provenance"]["versions"]["torch"]
    printed = capsys.readouterr().out
    assert ("do not apply" in printed) != result["targets apply"]


@pytest.mark.parametrize(
    "precision, units, apply, said",
    [
        ("bf16", True, True, "targets: FIX 3.0, CA 2.5"),
        ("bf16", False, False, "do not apply: this device has no bfloat16 units"),
        ("fp32", True, False, "do not apply: they are for bf16"),
        ("fp32", False, False, "do not apply: this device has no bfloat16 units"),
    ],
)
def test_the_targets_apply_to_bf16_that_is_not_emulated(
    script, monkeypatch, tmp_path, capsys, precision, units, apply, said
):
    train_step, out = script("train_step"), tmp_path / "train_step.json"
    automatic = "bf16" if units else "fp32"
    monkeypatch.setattr(train_step, "resolve_precision", lambda p, device: automatic if p == "auto" else p)
    seconds = {"wall": {"ours": 1.0, "reference": 2.0}}
    found = {
        "ratio": 2.0,
        "processor ratio": 2.0,
        "seconds": seconds,
        "peak memory MB": {"ours": None, "reference": 9.0},
    }
    monkeypatch.setattr(train_step, "measure", lambda mode, options: found)
    train_step.main(["--precision", precision, "--device", "cpu", "--out", str(out)])
    result = read_json(out)
    assert (result["precision"], result["bfloat16 units"], result["targets apply"]) == (
        precision,
        units,
        apply,
    )
    assert said in capsys.readouterr().out


def options(**changes: object) -> argparse.Namespace:
    values = {"device": "cpu", "threads": torch.get_num_threads(), "network": "resnet18", "classes": 10}
    return argparse.Namespace(**{**values, "size": 32, "batch": 4, "seed": 0, "precision": "fp32", **changes})


@pytest.mark.parametrize("mode", ["FIX", "CA"])
def test_steps_that_compute_something_else_are_not_compared(script, monkeypatch, mode):
    train_step = script("train_step")
    plain = train_step.plain_gradients

    def wrong(config, classifier, masker, images, labels, *, judge=None):
        plain(config, classifier, masker, images, labels, judge=judge)
        next(masker.parameters()).grad.mul_(1.01)

    monkeypatch.setattr(train_step, "plain_gradients", wrong)
    with pytest.raises(RuntimeError, match=f"{mode}: the gradients of the masker differ"):
        train_step.gradient_difference(mode, options())


def test_memory_is_measured_in_another_process(script):
    memory = script("train_step").step_memory_apart("FIX", True, options())
    assert memory is None if sys.platform == "win32" else memory > 0


def test_why_the_other_process_failed_is_named(script, monkeypatch):
    train_step = script("train_step")
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nValueError: no resnet99\n")
    monkeypatch.setattr(script("timing").subprocess, "run", lambda *command, **settings: failed)
    with pytest.raises(RuntimeError, match=r"FIX: the process .* failed \(ValueError: no resnet99\)"):
        train_step.step_memory_apart("FIX", True, options())


# --- cost -----------------------------------------------------------------------------------------


def test_operations_are_counted_as_two_a_multiplication(script):
    counted = script("cost").counted
    assert counted(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7
    images, weights = torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)
    assert counted(lambda: torch.nn.functional.conv2d(images, weights)) == 2 * (2 * 4 * 6 * 6) * (3 * 3 * 3)


def test_a_step_costs_the_passes_that_it_is_made_of(script, tmp_path, capsys):
    """FIX 1 + 2 x 2, CA 10 or 7 (benchmarks/README.md), and a little for the masker; ResNet-18 is published with 1.8 GFLOP."""
    cost, out = script("cost"), tmp_path / "cost.json"
    rest = ["--network", "resnet18", "--batch", "1", "--device", "cpu", "--out", str(out)]
    cost.main([*rest, "--images", "3600", "--teraflops", "0.001"])
    found = read_json(out)
    forward = found["operations an image"]["forward pass"]
    assert forward == pytest.approx(2 * 1.81e9, rel=0.02), "a multiplication and an addition count as one there"
    for mode, passes in {"FIX": 5, "CA": 8.5}.items():
        assert passes - 0.4 < found["operations an image"][mode] / forward < passes + 0.2
        assert found["hours"][mode] == pytest.approx(found["operations an image"][mode] / 1e9)
    assert "resnet18 at 224" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--teraflops", "0"], ["--images", "0"]])
def test_a_cost_needs_images_and_a_speed(script, capsys, wrong):
    with pytest.raises(SystemExit):
        script("cost").main(wrong)
    assert "must be above 0" in capsys.readouterr().err


# --- throughput -----------------------------------------------------------------------------------


def test_throughput_is_measured_and_written(script, monkeypatch, tmp_path, cache):
    throughput, out = script("throughput"), tmp_path / "throughput.json"
    monkeypatch.setattr(throughput, "Scenes", functools.partial(Scenes, count=8))
    throughput.main(
        [*TINY, "--images", "8", "--device", "cpu", "--cache", str(cache / "scenes"), "--out", str(out)]
    )
    result = read_json(out)
    drawn, judged = result["maps"]["a second"], result["evaluation"]["images a second"]
    assert drawn.keys() == {"masker", "Grad-CAM", "classifier alone"}
    assert judged.keys() == {"evaluate", "classifier alone"}
    assert positive(*drawn.values(), *judged.values())
    assert result["maps"]["ratio"] == pytest.approx(drawn["masker"] / drawn["Grad-CAM"])
    assert result["evaluation"]["ratio"] == pytest.approx(judged["evaluate"] / judged["classifier alone"])
    assert result["precision"] in ("bf16", "fp32")


# --- masks ----------------------------------------------------------------------------------------


def test_masks_are_measured_beside_plain_loops_and_written(script, tmp_path, capsys):
    masks, out = script("masks"), tmp_path / "masks.json"
    masks.main(["--size", "32", "--masks", "8", "--rounds", "1", "--device", "cpu", "--out", str(out)])
    result, printed = read_json(out), capsys.readouterr().out
    for name in masks.COMPARED:
        found = result[name]
        speeds = found["masks a second"]
        assert positive(*speeds.values()) and found["difference"] <= masks.TOLERANCE
        assert found["ratio"] == pytest.approx(speeds["ours"] / speeds["plain loop"])
        assert f"{name}: {speeds['ours']:.0f}, {found['ratio']:.2f} times" in printed
    assert result["settings"]["masks"] == 8 and result["provenance"]["seeds"] == [0]


def test_maps_that_differ_are_not_compared(script, monkeypatch, tmp_path):
    masks, out = script("masks"), tmp_path / "masks.json"
    other = masks.Compared(masks.rise, lambda *given: 1.01 * masks.plain_rise(*given))
    monkeypatch.setattr(masks, "COMPARED", {"RISE": other})
    with pytest.raises(RuntimeError, match=r"RISE: the maps are 0\.0099 apart, more than 0\.0001"):
        masks.main(["--size", "32", "--masks", "4", "--device", "cpu", "--out", str(out)])
    assert not out.exists()


# --- threads --------------------------------------------------------------------------------------


def test_a_process_of_its_own_measures_one_pass(script):
    seconds = script("threads").apart(1, "PASSIVE", argparse.Namespace(images=32, seed=0))
    assert seconds.keys() == {"wall", "processor"} and positive(*seconds.values())


def test_threads_are_measured_and_written(script, monkeypatch, tmp_path, capsys):
    threads, out = script("threads"), tmp_path / "threads.json"
    monkeypatch.setattr(threads, "apart", lambda *_: threads.work(torch.get_num_threads(), 1, 0))
    threads.main(["--threads", "2", "--rounds", "1", "--out", str(out)])
    result, printed = read_json(out), capsys.readouterr().out
    for place in ("idle", "beside a busy process"):
        seconds, ratio = result[place]["seconds"], result[place]["ratio"]
        assert seconds.keys() == {"one thread", "spinning", "sleeping"}
        assert positive(*(one[clock] for one in seconds.values() for clock in ("wall", "processor")))
        for name in ("spinning", "sleeping"):
            assert ratio[name] == pytest.approx(seconds["one thread"]["wall"] / seconds[name]["wall"])
        assert f"{place}, sleeping: {ratio['sleeping']:.2f} times as fast" in printed
    assert result["settings"]["threads"] == 2 and result["provenance"]["seeds"] == [0]


def test_only_how_threads_wait_differs_between_the_processes(script, monkeypatch):
    threads, started = script("threads"), []

    def run(command, *, env, **_):
        started.append((command[command.index("--threads") + 1], env.get("OMP_WAIT_POLICY"), env.get("GOMP_SPINCOUNT")))
        return subprocess.CompletedProcess(command, 0, stdout='{"wall": 2.0, "processor": 1.0}')

    monkeypatch.setattr(threads.subprocess, "run", run)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    found = threads.measure(argparse.Namespace(threads=4, images=1, rounds=1, seed=0))
    assert started == [("1", None, None), ("4", None, None), ("4", "PASSIVE", None)] * 2
    assert found["idle"]["sleeping"] == {"wall": 2.0, "processor": 1.0}


def test_medians_and_ratios_are_those_of_the_clock(script, monkeypatch):
    threads = script("threads")
    walls = iter([4.0, 2.0, 2.5, 6.0, 4.0, 2.5, 5.0, 1.0, 2.5] * 2)
    monkeypatch.setattr(threads, "apart", lambda *_: {"wall": next(walls), "processor": 1.0})
    found = threads.measure(argparse.Namespace(threads=2, images=1, rounds=3, seed=0))
    assert {name: one["wall"] for name, one in found["idle"].items()} == {"one thread": 5.0, "spinning": 2.0, "sleeping": 2.5}
    assert threads.ratios(found["idle"]) == {"spinning": 2.5, "sleeping": 2.0}


def test_the_busy_process_ends_with_what_it_is_beside(script, monkeypatch):
    threads, started = script("threads"), []
    popen = subprocess.Popen
    monkeypatch.setattr(threads.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(ZeroDivisionError), threads.busy():
        assert started[0].poll() is None
        raise ZeroDivisionError
    assert started[0].poll() is not None


def test_one_thread_is_not_measured_and_a_failure_is_named(script, monkeypatch, tmp_path, capsys):
    threads = script("threads")
    threads.main(["--threads", "1", "--out", str(tmp_path / "absent.json")])
    assert "nobody to wait for" in capsys.readouterr().out and not (tmp_path / "absent.json").exists()
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nMemoryError: none left\n")
    monkeypatch.setattr(threads.subprocess, "run", lambda *command, **settings: failed)
    with pytest.raises(RuntimeError, match=r"2 threads, PASSIVE: the process that measures failed \(MemoryError: none left\)"):
        threads.apart(2, "PASSIVE", argparse.Namespace(images=1, seed=0))


# --- loading --------------------------------------------------------------------------------------


def test_the_photographs_of_the_loader_are_of_the_size_and_the_classes_and_the_same_again(script, tmp_path):
    loader = script("loader")
    for folder in ("a", "b"):
        loader.write_photographs(tmp_path / folder, 5, (600, 400), seed=0)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.JPEG"))
    assert [path.parent.name for path in files] == ["n00000000", "n00000000", "n00000001", "n00000002", "n00000003"]
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    with Image.open(tmp_path / "a" / files[0]) as image:
        assert image.size == (600, 400) and image.convert("L").getextrema()[1] > 100


@pytest.mark.parametrize("workers", [0, 1])
def test_both_loaders_load_every_image_of_full_batches(script, tmp_path, workers):
    loader = script("loader")
    loader.write_photographs(tmp_path / "train", 10, (60, 40), seed=0)
    options = argparse.Namespace(size=16, batch=4, seed=0, workers=workers)
    assert loader.load_ours(tmp_path, options) == loader.load_theirs(tmp_path, options) == 8


def test_loading_is_measured_and_written(script, monkeypatch, tmp_path, capsys):
    loader, out = script("loader"), tmp_path / "loader.json"
    few = ["--batch", "2", "--images", "4", "--large", "2", "--size", "64", "--rounds", "1", "--steps", "1"]
    loader.main([*few, "--network", "torchvision:resnet18", "--device", "cpu", "--out", str(out)])
    result = read_json(out)
    for size in ("500x375", "4000x3000"):
        found = result[size]
        speeds = found["images a second"]
        assert positive(*speeds.values(), *found["processor seconds an image"].values(), found["processor ratio"])
        assert found["ratio"] == pytest.approx(speeds["ours"] / speeds["torchvision"])
    spent = result["a step"]
    assert spent["share"] == pytest.approx(spent["loading"] / (spent["loading"] + spent["step"]))
    assert spent["loading"] == pytest.approx(2 / result["500x375"]["images a second"]["ours"])
    assert 20 * result["500x375"]["KB a file"] < result["4000x3000"]["KB a file"], "a large file holds much detail"
    assert result["settings"]["threads"] == 1 and "torchvision's" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        loader.main(["--images", "4", "--batch", "8"])
    assert "at least --batch 8" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="there the processes that were started do not count")
def test_the_processor_time_of_processes_that_were_started_counts(script):
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    work = {"apart": lambda: subprocess.run([sys.executable, "-c", burn], check=True)}
    assert script("timing").interleaved(work, 1, torch.device("cpu"), warm=0)["apart"].processor[0] > 0.25


def test_a_start_is_measured_twice_and_the_second_reads_the_list(script, monkeypatch, tmp_path, capsys):
    index, out = script("index"), tmp_path / "index.json"
    index.main(["--images", "3000", "--out", str(out)])
    result = read_json(out)
    for name in ("first start", "from the list"):
        found = result[name]
        assert found["images"] == 3000 and found["last"] == "train/n00000999/n00000999_2999.JPEG"
        assert positive(*found["seconds"].values()) and (found["MB"] is None or found["MB"] < 200)
    assert 0 < result["MB of the list"] < 1 and "3,000 images" in capsys.readouterr().out
    index.start(tmp_path, 10)
    monkeypatch.setattr("maskerlib.data.sets.index.Index.of", None)
    assert index.start(tmp_path, 10)["last"].endswith("_9.JPEG"), "nothing is listed again"
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nMemoryError: none left\n")
    monkeypatch.setattr(script("timing").subprocess, "run", lambda *command, **settings: failed)
    with pytest.raises(RuntimeError, match=r"first start: the process that measures failed \(MemoryError: none left\)"):
        index.main(["--images", "10", "--out", str(out)])


# --- memory over time -------------------------------------------------------------------------------


def test_growth_compares_the_end_with_the_middle(script):
    growth = script("memory").growth
    assert growth([5.0] * 10 + [7.0] * 10) == 1, "what a start needs is no growth"
    assert growth([float(mb) for mb in range(1, 101)]) == pytest.approx(95.5 / 55.5)
    assert growth([3.0]) == 1


def test_memory_is_watched_drawn_and_written(script, tmp_path, capsys):
    memory, out = script("memory"), tmp_path / "memory.json"
    memory.main(["--steps", "4", "--images", "130", "--device", "cpu", "--out", str(out)])
    result = read_json(out)
    assert [len(result[job]["MB"]) for job in memory.JOBS] == [4, 4, 3]
    assert all(positive(*result[job]["MB"]) for job in memory.JOBS) and result["limit"] == memory.GROWTH
    assert out.with_suffix(".png").stat().st_size > 1000 and "MB at the most" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the peak is told")
def test_a_leak_would_be_seen(script):
    memory, kept = script("memory"), []
    source = memory.Watched(memory.MadeUp(100, 32, ("a", "b")), torch.device("cpu"))
    for number in range(100):
        kept.append(mmap.mmap(-1, 2**21))  # 2 MB of the system's own, not what was freed before
        kept[-1].write(bytes(2**21))
        source.batch([number])
    assert 150 < source.seen[-1] - source.seen[0] < 300


# --- precision ------------------------------------------------------------------------------------


def test_the_precisions_are_compared_and_written(script, monkeypatch, tmp_path, cache):
    precision, out, weights = script("precision"), tmp_path / "precision.json", tmp_path / "classifier.pt"
    scenes = functools.partial(Scenes, count=16)
    monkeypatch.setattr(precision, "Scenes", scenes)
    classes = scenes("val", cache=cache / "scenes").class_names
    save_checkpoint(weights, {"weights": scene_resnet(classes, seed=1).state_dict()})
    size = ["--steps", "2", "--batch", "4", "--images", "8", "--seeds", "0", "1", "--modes", "FIX"]
    files = ["--classifier", str(weights), "--cache", str(cache / "scenes"), "--out", str(out)]
    precision.main(["--precision", "bf16", "--device", "cpu", *size, *files])
    result = read_json(out)
    found = result["FIX"]
    for metric in ("LE", "PxAP"):
        values = [found[name][metric] for name in ("bf16", "fp32")]
        assert [len(numbers) for numbers in values] == [2, 2]
        assert found[metric] == precision.compare(*values)
    assert "CA" not in result and result["provenance"]["seeds"] == [0, 1]


def test_a_difference_is_within_the_spread_up_to_one_standard_deviation(script):
    compare = script("precision").compare
    fp32 = [0.1, 0.2, 0.3]  # standard deviation 0.1
    within = compare([0.2, 0.2, 0.4], fp32)  # on average 0.0667 more
    assert within["difference"] == pytest.approx([0.1, 0.0, 0.1])
    assert within["mean difference"] == pytest.approx(0.2 / 3) and within["seed spread"] == pytest.approx(0.1)
    assert within["within"] is True
    assert compare([0.25, 0.35, 0.45], fp32)["within"] is False
    assert compare([-0.05, 0.05, 0.15], fp32)["within"] is False


def test_without_bfloat16_units_nothing_is_measured(script, monkeypatch, tmp_path):
    precision, out = script("precision"), tmp_path / "precision.json"
    monkeypatch.setattr(precision, "resolve_precision", lambda name, device: "fp32")
    with pytest.raises(SystemExit, match="no bfloat16 units.*--precision bf16"):
        precision.main(["--device", "cpu", "--out", str(out)])
    assert not out.exists()


def test_a_spread_needs_two_seeds(script, capsys):
    with pytest.raises(SystemExit):
        script("precision").main(["--seeds", "0"])
    assert "two or more" in capsys.readouterr().err
