"""What every network is asked for, whoever wrote it: to stand still, to show what it is wrapped in, to name its parts."""

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["compiled", "frozen", "hooks_run", "load_state", "outline", "parts", "unwrapped", "with_gradients"]


P = ParamSpec("P")
Result = TypeVar("Result")
Part = TypeVar("Part")


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside: eval mode and weights without gradients. Afterwards: every mode and flag as it was before."""
    modes = [(part, part.training) for part in module.modules()]
    flags = [(weight, weight.requires_grad) for weight in module.parameters()]
    module.eval()
    module.requires_grad_(False)
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, flag in flags:
            weight.requires_grad_(flag)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside what torch.compile and the data-parallel wrappers put around it."""
    while True:
        inside = getattr(network, "_orig_mod", None)
        if inside is None and isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = network.module
        if not isinstance(inside, nn.Module):
            return network
        network = inside


def outline(modules: dict[str, nn.Module]) -> list[str]:
    """Names of the outer two levels: enough to choose from without listing every convolution."""
    return [name for name in modules if name and name.count(".") <= 1][:40]


def parts(named: Mapping[str, Part]) -> dict[str, Part]:
    """Modules or tensors by canonical name: without the names that torch.compile puts between, and tensors alone of a state."""
    kept = {name: part for name, part in named.items() if isinstance(part, Tensor | nn.Module)}
    return {name.replace("_orig_mod.", ""): part for name, part in kept.items() if not name.endswith("_orig_mod")}


def load_state(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors by canonical name, and leave all else of a state (versions, extra states) as the module has it.

    Raises RuntimeError naming what is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    names = {name.replace("_orig_mod.", ""): name for name, value in own.items() if isinstance(value, Tensor)}
    if wrong := sorted(set(names) ^ set(tensors)):
        more = f", as {len(wrong) - 1} more are missing or unexpected" if len(wrong) > 1 else ""
        raise RuntimeError(f"{wrong[0]!r} is {'missing' if wrong[0] in names else 'unexpected'}{more}")
    state = OrderedDict(own)
    state.update((names[name], value) for name, value in tensors.items())
    state._metadata = getattr(own, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    module.load_state_dict(state)


@contextlib.contextmanager
def hooks_run(network: nn.Module) -> Iterator[None]:
    """Inside: modules that were compiled in place run as they were written, so that their hooks are called."""
    compiled = [(part, part._compiled_call_impl) for part in network.modules() if getattr(part, "_compiled_call_impl", None)]
    for part, _ in compiled:
        part._compiled_call_impl = None
    try:
        yield
    finally:
        for part, call in compiled:
            part._compiled_call_impl = call


@contextlib.contextmanager
def compiled(networks: Sequence[nn.Module], backend: str) -> Iterator[None]:
    """Inside: the networks run through `backend` of torch.compile, in place, so that no name and no reference changes.

    Passes whose hooks are to be called (`hooks_run`) are left as written.

    Raises ValueError for a backend that torch does not have.
    """
    from torch._functorch import config

    if backend not in torch.compiler.list_backends(exclude_tags=()):
        known = ", ".join(torch.compiler.list_backends())
        raise ValueError(f"compile={backend!r} is no backend of torch.compile; choose one of {known}, or None")
    before = [network._compiled_call_impl for network in networks]
    for network in networks:
        network.compile(backend=backend)
    # A view's graph is asked for two gradients in CA; torch 2.5 gives no buffer away yet.
    kept = config.patch(donated_buffer=False) if hasattr(config, "donated_buffer") else contextlib.nullcontext()
    try:
        with kept:
            yield
    finally:
        for network, call in zip(networks, before, strict=True):
            network._compiled_call_impl = call


def with_gradients(function: Callable[P, Result]) -> Callable[P, Result]:
    """A function that needs gradients, whatever its caller has switched off."""

    @functools.wraps(function)
    def switched(*arguments: P.args, **options: P.kwargs) -> Result:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*arguments, **options)

    return switched
