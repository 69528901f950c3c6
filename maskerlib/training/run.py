"""One run of the training of a module: loaded where it is finished, else taken step by step and left in its folder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.weights import restore_weights
from maskerlib.data.samples import Batch, Source
from maskerlib.running.checks import changes
from maskerlib.running.distributed import agreed, first, wait
from maskerlib.running.provenance import Identified
from maskerlib.training.finished import load_finished, save_finished
from maskerlib.training.loop import Plan, Stateful, run_steps
from maskerlib.training.whole_batch import whole_batch

__all__ = ["TrainingRun"]


class TrainingRun:
    """A run whose result is the weights of one module; `load` them, or `train` it.

        if not run.load(module):
            run.train(module, plan, source, step, {"adam": adam})

    Either leaves the module in eval mode and without gradients. With a folder a finished run is loaded and a killed one goes
    on; `<name>.pt`, `history.json` and `provenance.json` are left there.

    Args:
        name: what is trained: "classifier".
        folder: where the run lives; None keeps nothing.
        config: a frozen dataclass.
        decides: all else that decides what comes out of it, ready for JSON.
    """

    def __init__(self, name: str, folder: str | Path | None, config: Any, *decides: Any) -> None:
        self.name, self.config = name, config
        self.folder = Path(folder) if folder is not None else None
        self.identity = json.dumps([changes(config), *decides])

    def load(self, module: nn.Module) -> bool:
        """Load into `module` what this run left; False where it is not finished, or has no folder.

        Raises ValueError for a folder that holds another run, or a file that is damaged.
        """
        saved = None if self.folder is None else self._finished(self.folder)
        agreed(saved is not None, "whether their run is finished", "their folder has to lie on a disk that all of them see")
        if self.folder is None or saved is None:
            return False
        restore_weights(module, saved, self.folder / f"{self.name}.pt")
        module.eval().requires_grad_(False)
        return True

    def _finished(self, folder: Path) -> dict[str, Any] | None:
        return load_finished(folder, self.name, self.identity, lambda content: type(self.config)(**content))

    def train(
        self,
        module: nn.Module,
        plan: Plan,
        source: Source,
        step: Callable[[int, Batch], Mapping[str, float]],
        state: Mapping[str, Stateful],
        *,
        classifier: Identified | None = None,
        progress: bool = True,
    ) -> None:
        """Take the steps that are still to be taken, and leave the result.

        Args:
            step, progress, and what is raised: as in `maskerlib.training.loop.run_steps`.
            state: what `step` changes besides the module.
            classifier: whose name and fingerprint `provenance.json` records.
        """
        with whole_batch(module):
            history = run_steps(
                plan,
                source,
                step,
                {self.name: module, **state},
                identity=self.identity,
                folder=self.folder,
                device=next((weight.device for weight in module.parameters()), None),
                progress=progress,
                description=self.name,
            )
        content: dict[str, Any] = {"weights": module.eval().requires_grad_(False).state_dict()}
        if isinstance(classifier, Classifier):
            content["class_names"] = list(classifier.class_names)  # whoever asks for it by its file need not say them again
        if self.folder is not None and first():
            save_finished(
                self.folder, self.name, self.identity, content, history=history, seed=plan.seed, classifier=classifier
            )
        wait()  # until it is in its folder
