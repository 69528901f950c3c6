"""Mixed precision and memory layout, decided once from the device and named in every result.

bfloat16 keeps the exponent of float32, so no loss scaling is needed; on processors with bfloat16 units it makes
training two to four times faster. On processors without them it is emulated and many times slower, so "auto" asks.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor

from maskerlib.running.checks import check_value, one_of

__all__ = ["PRECISIONS", "autocast", "resolve_precision", "single"]

PRECISIONS = ("auto", "bf16", "fp32")


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """Return "bf16" or "fp32" for `precision` in ("auto", "bf16", "fp32") on `device`.

    "auto" is bf16 on CUDA devices of compute capability 8.0 or newer and on CPUs with bfloat16 instructions
    (AVX512-BF16, AMX, Arm BF16), and fp32 elsewhere. Raises ValueError for any other name.
    """
    check_value("precision", precision, one_of(PRECISIONS))
    if precision != "auto":
        return precision
    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if kind == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    return "fp32"


def single(values: Tensor) -> Tensor:
    """The values in float32 at least; float64 stays.

    >>> single(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _cpu_has_bf16() -> bool:
    # oneDNN also says yes where it only emulates (AVX-512 without the BF16 instructions), so x86 is asked for these.
    # Its operator is private: its absence means "unknown", and fp32 is the safe choice.
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if supported is None or not torch.backends.mkldnn.is_available() or not supported():
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("architecture") != "x86_64":
        return True
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(precision: str, device: torch.device | str) -> contextlib.AbstractContextManager[object]:
    """A context in which convolutions and matrix products run in `precision` on `device` (see `resolve_precision`)."""
    if resolve_precision(precision, device) == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
