"""Write Resources/requirements-*.txt: every package pinned, every file by sha256, from pyproject's dependency groups.

Needs uv on the PATH. Two files come out for torch: requirements-torch.txt holds what a CPU or macOS build needs and
requirements-torch-cuda.txt what the registry's Linux build needs (several GB). pip picks no variant in hash-checking
mode, so the Makefile tries the first and falls back to the second.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESOURCES = ROOT / "Resources"
TORCH_CPU_HASHES = ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)  # 2.13.0+cpu, cp311, x86_64
CUDA_ONLY = re.compile(r"^(cuda-|nvidia-|triton)")


def lock(group: str, target: Path) -> None:
    """Resolve one dependency group for every platform, with hashes."""
    options = "--generate-hashes --universal --python-version 3.11 --no-header --no-annotate --quiet".split()
    command = ["uv", "pip", "compile", "--group", f"{ROOT / 'pyproject.toml'}:{group}", *options, "-o", str(target)]
    subprocess.run(command, check=True)


def without_cuda(text: str) -> str:
    """The same pins for a build of torch that brings no CUDA packages."""
    blocks = re.split(r"\n(?=\S)", text.strip())
    kept = [block for block in blocks if not CUDA_ONLY.match(block)]
    extra = "".join(f" \\\n    --hash=sha256:{each}" for each in TORCH_CPU_HASHES)
    return "\n".join(block + extra if block.startswith("torch==") else block for block in kept) + "\n"


def main() -> None:
    for group in ("host", "worker", "dev"):
        lock(group, RESOURCES / f"requirements-{group}.txt")
    cuda = RESOURCES / "requirements-torch-cuda.txt"
    lock("torch", cuda)
    (RESOURCES / "requirements-torch.txt").write_text(without_cuda(cuda.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
