"""Which number type the forward pass computes in."""

import torch


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type for autocast, or None for plain float32. "auto" is bf16 only where the hardware multiplies in it.

    That is an NVIDIA GPU from Ampere on, or a CPU with AMX or AVX-512 BF16; elsewhere bf16 is emulated and slower than
    float32. bf16 has float32's range, so no loss scaling is needed; the weights, the averaged ones and the optimiser's
    state stay float32. "bf16" is taken at its word on any device.
    """
    if precision == "auto":
        return torch.bfloat16 if _computes_bf16(device) else None
    return {"fp32": None, "bf16": torch.bfloat16}[precision]


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False
