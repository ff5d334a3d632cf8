"""Write Resources/requirements-*.txt from pyproject's dependency groups: pinned, every file by its sha256.

Needs uv on the PATH. Two files come out for torch: requirements-torch.txt for the registry's builds, which on
Linux bring several GB of CUDA, and requirements-torch-cpu.txt for a CPU build where pip knows of one. In
hash-checking mode pip chooses no variant: the Makefile tries the second and falls back to the first.
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


def cpu_only(text: str) -> str:
    """The same pins for the CPU build of torch: only its file is accepted, and no CUDA package."""
    blocks = re.split(r"\n(?=\S)", text.strip())
    kept = [block for block in blocks if not CUDA_ONLY.match(block)]
    hashes = "".join(f" \\\n    --hash=sha256:{each}" for each in TORCH_CPU_HASHES)
    pinned = [block.split(" ")[0] + hashes if block.startswith("torch==") else block for block in kept]
    return "\n".join(pinned) + "\n"


def main() -> None:
    for group in ("host", "worker", "dev", "ui", "torch", "train"):
        lock(group, RESOURCES / f"requirements-{group}.txt")
    text = cpu_only((RESOURCES / "requirements-torch.txt").read_text(encoding="utf-8"))
    (RESOURCES / "requirements-torch-cpu.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
