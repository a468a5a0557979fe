"""What made a result: versions and hardware, for reports and the files beside them."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("drig", "torch", "ray", "numpy")


def versions() -> dict[str, str]:
    """Package -> version, `python`, and `hardware`: the GPU where there is one, otherwise processor and threads."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {**found, "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()}


def code_version() -> str:
    """The git commit of the checkout that runs, and whether files differ from it; elsewhere the version of drig."""
    root = Path(__file__).parents[1]
    if (root / ".git").exists():
        git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        found = subprocess.run(git, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return version("drig")


def _processor() -> str:
    capabilities = torch.cpu.get_capabilities()
    bf16 = [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]
    kind = f"{capabilities.get('cpu_name') or platform.machine()} ({', '.join(bf16) or 'no bfloat16 units'})"
    return f"{kind}, {torch.get_num_threads()} threads"
