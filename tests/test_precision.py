"""Mixed precision is chosen where the processor has units for it, and nowhere else."""

import pytest
import torch

from maskerlib.running.precision import autocast, resolve_precision


@pytest.mark.parametrize(
    "onednn, capabilities, expected",
    [
        (False, {"architecture": "x86_64", "avx2": True}, "fp32"),
        (True, {"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),  # emulated
        (True, {"architecture": "x86_64", "avx512_bf16": True}, "bf16"),
        (True, {"architecture": "x86_64", "amx_bf16": True}, "bf16"),
        (True, {"architecture": "aarch64"}, "bf16"),
    ],
)
def test_auto_asks_the_processor(onednn, capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", "cpu") == expected


def test_a_choice_is_kept_and_an_unknown_one_named():
    assert resolve_precision("bf16", "cpu") == "bf16" and resolve_precision("fp32", "cpu") == "fp32"
    with pytest.raises(ValueError, match="precision='fp16' is unknown; choose one of auto, bf16, fp32"):
        resolve_precision("fp16", "cpu")


def test_autocast_computes_products_in_what_was_chosen():
    one = torch.ones(2, 2)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(precision, "cpu"):
            assert (one @ one).dtype == dtype
