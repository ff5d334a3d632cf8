"""Write Resources/requirements-*.txt from pyproject's dependency groups: pinned, every file by its sha256.

Needs uv on the PATH. Two files come out for torch: requirements-torch.txt for the registry's builds, which on
Linux bring several GB of CUDA, and requirements-torch-cpu.txt for a CPU build where pip knows of one. In
hash-checking mode pip chooses no variant: the Makefile tries the second and falls back to the first. What
training and ONNX need is resolved against torch's file and goes on top: what that pins isn't named again.
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


def lock(group: str, target: Path, *, on_top_of: Path | None = None) -> None:
    """Resolve one dependency group for every platform, with hashes; less what another file pins already."""
    command = ["uv", "pip", "compile", "--group", f"{ROOT / 'pyproject.toml'}:{group}", "-o", str(target)]
    options = ["--generate-hashes", "--universal", "--python-version", "3.11"]
    if on_top_of is not None:
        options += ["--constraint", str(on_top_of)]
    subprocess.run([*command, *options, "--no-header", "--no-annotate", "--quiet"], check=True)
    if on_top_of is not None:
        pinned = {pin_of(block) for block in blocks(on_top_of.read_text(encoding="utf-8"))}
        more = [each for each in blocks(target.read_text(encoding="utf-8")) if pin_of(each) not in pinned]
        target.write_text("\n".join(more) + "\n", encoding="utf-8")


def blocks(text: str) -> list[str]:
    """The parts of a requirements file, one for each pin."""
    return re.split(r"\n(?=\S)", text.strip())


def pin_of(block: str) -> str:
    """Name, version and platforms of a part."""
    return block.partition(" \\")[0]


def cpu_only(text: str) -> str:
    """The same pins for the CPU build of torch: only its file is accepted, and no CUDA package."""
    kept = [block for block in blocks(text) if not CUDA_ONLY.match(block)]
    hashes = "".join(f" \\\n    --hash=sha256:{each}" for each in TORCH_CPU_HASHES)
    pinned = [block.split(" ")[0] + hashes if block.startswith("torch==") else block for block in kept]
    return "\n".join(pinned) + "\n"


def main() -> None:
    for group in ("host", "worker", "dev", "ui", "torch"):
        lock(group, RESOURCES / f"requirements-{group}.txt")
    torch = RESOURCES / "requirements-torch.txt"
    for group in ("onnx", "train"):
        lock(group, RESOURCES / f"requirements-{group}.txt", on_top_of=torch)
    text = cpu_only(torch.read_text(encoding="utf-8"))
    (RESOURCES / "requirements-torch-cpu.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
