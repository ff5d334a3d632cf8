"""Write Resources/requirements-*.txt from pyproject's dependency groups: pinned, every file by its sha256.

Needs uv on the PATH. Two files come out for torch: requirements-torch.txt for a CPU or macOS build
and requirements-torch-cuda.txt for the registry's Linux build (several GB). pip picks no variant in
hash-checking mode, so the Makefile tries the first and falls back to the second.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESOURCES = ROOT / "Resources"
TORCH_CPU_HASHES = (  # 2.13.0+cpu, cp311, x86_64
    "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
)
CUDA_ONLY = re.compile(r"^(cuda-|nvidia-|triton)")


def lock(group: str, target: Path) -> None:
    """Resolve one dependency group for every platform, with hashes."""
    command = ["uv", "pip", "compile", "--group", f"{ROOT / 'pyproject.toml'}:{group}", "-o", str(target)]
    options = ["--generate-hashes", "--universal", "--python-version", "3.11"]
    subprocess.run([*command, *options, "--no-header", "--no-annotate", "--quiet"], check=True)


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
    slim = without_cuda(cuda.read_text(encoding="utf-8"))
    (RESOURCES / "requirements-torch.txt").write_text(slim, encoding="utf-8")


if __name__ == "__main__":
    main()
