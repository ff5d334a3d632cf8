"""The dependency rules of the house, checked by reading the code; nothing is executed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CODE = Path(__file__).resolve().parents[2] / "CT3DAssistant"
TORCH = {"torch", "transformers", "monai", "safetensors", "einops", "xllamacpp", "accelerate", "peft", "gguf"}
TORCH |= {"onnx", "onnxruntime", "onnxscript"}
SLICER = {"slicer", "vtk", "vtkmodules", "mrml", "vtkSegmentationCorePython"}
QT = {"qt", "ctk", "PythonQt", "PySide6"}
STANDARD = set(sys.stdlib_module_names)
SHARED = {"protocol", "errors", "cards", "case"}

# layer: (our layers that it may import; roots that it must not, or None: nothing but the standard library)
RULES = {
    "ct3d/protocol": (SHARED, None),
    "ct3d/errors.py": (set(), None),
    "ct3d/cards.py": (SHARED, None),
    "ct3d/case.py": (SHARED, None),
    "ct3d/client": ({"client", "protocol", "errors"}, None),
    "ct3d/imaging": ({"imaging"} | SHARED, TORCH | SLICER | QT),
    "ct3d/models": ({"models"}, SLICER | QT | {"SimpleITK"}),
    "ct3d/pipeline": ({"pipeline", "models", "imaging"} | SHARED, SLICER | QT),
    "ct3d/worker": ({"worker", "pipeline", "protocol", "cards", "errors"}, TORCH | SLICER | QT),
    "ct3d/training": (
        {"training", "pipeline", "models", "imaging", "cards", "case", "errors", "protocol"},
        SLICER | QT,
    ),
    "CT3DAssistantLib": ({"client", "imaging"} | SHARED, TORCH),
    "CT3DAssistant.py": ({"client", "imaging"} | SHARED, TORCH),
}
MODULES_OF_WORKER = {
    "ct3d.pipeline.job",
    "ct3d.pipeline.machine",
}  # what a job is and runs on; tasks only by name
WITH_SIMPLEITK = {"files.py", "dicom.py", "stack.py", "resample.py", "labels.py"}
WITHOUT_QT = ("logic.py", "scene.py", "results.py", "terminology.py")
MAY_CATCH_ALL = {
    "ct3d/worker/server.py",
    "ct3d/models/language.py",  # carries an exception past a C library, then raises it
    "CT3DAssistantLib/panels/panel.py",
    "CT3DAssistantLib/cli.py",
}
MAY_EXIT = {"ct3d/worker/__main__.py", "CT3DAssistantLib/cli.py", "CT3DAssistantLib/chores.py"}
MAY_PRINT = {"CT3DAssistantLib/cli.py"}
NEVER = {"imp", "pickle", "cPickle", "dill", "marshal", "shelve"}
FILES = sorted(path.relative_to(CODE).as_posix() for path in CODE.rglob("*.py"))


def nodes(file: str) -> list[ast.AST]:
    """Every node of a file's code."""
    return list(ast.walk(ast.parse((CODE / file).read_text(encoding="utf-8"))))


def imported(file: str) -> list[str]:
    """Dotted names a file imports: modules, and what is taken from them where that may be a module too."""
    names = [alias.name for node in nodes(file) if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes(file):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def files_of(layer: str) -> list[str]:
    """Files of a layer, which is a folder or a file."""
    return [file for file in FILES if file == layer or file.startswith(f"{layer}/")]


def layer_of(module: str) -> str | None:
    """Our layer that a module belongs to."""
    parts = module.split(".")
    if parts[0] == "CT3DAssistantLib":
        return "CT3DAssistantLib"
    return parts[1] if parts[0] == "ct3d" and len(parts) > 1 and parts[1] != "__version__" else None


def called(node: ast.AST) -> str:
    """Dotted name of what a call calls."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def catches_all(node: ast.ExceptHandler) -> bool:
    """Whether a handler is bare, or names Exception or BaseException."""
    if node.type is None:
        return True
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return bool({ast.unparse(kind) for kind in kinds} & {"Exception", "BaseException"})


def test_every_file_of_the_engine_is_in_a_layer():
    ruled = {file for layer in RULES for file in files_of(layer)}
    assert set(FILES) - ruled <= {"ct3d/__init__.py"}


@pytest.mark.parametrize("layer", RULES)
def test_a_layer_imports_only_what_it_may_of_ours(layer):
    allowed = RULES[layer][0] | ({"CT3DAssistantLib"} if layer.startswith("CT3DAssistant") else set())
    for file in files_of(layer):
        for module in imported(file):
            assert layer_of(module) in allowed | {None}, f"{file} imports {module}"


@pytest.mark.parametrize("layer", RULES)
def test_a_layer_imports_only_what_it_may_of_others(layer):
    banned = RULES[layer][1]
    for file in files_of(layer):
        for root in {module.split(".")[0] for module in imported(file)} - {"ct3d", "CT3DAssistantLib"}:
            allowed = root in STANDARD if banned is None else root not in banned
            assert allowed and root not in NEVER, f"{file} imports {root}"


def test_the_worker_takes_of_the_pipeline_only_what_a_job_is_and_runs_on():
    for file in files_of("ct3d/worker"):
        of_pipeline = {module for module in imported(file) if module.startswith("ct3d.pipeline.")}
        strangers = {
            m for m in of_pipeline if not any(m == ok or m.startswith(f"{ok}.") for ok in MODULES_OF_WORKER)
        }
        assert not strangers, f"{file} imports {strangers}; tasks are found by name"


def test_in_imaging_only_files_that_read_write_or_resample_know_simpleitk():
    for file in files_of("ct3d/imaging"):
        uses = any(module.split(".")[0] == "SimpleITK" for module in imported(file))
        assert not uses or Path(file).name in WITH_SIMPLEITK, f"{file} imports SimpleITK"


@pytest.mark.parametrize("name", WITHOUT_QT)
def test_what_works_on_a_scene_knows_no_window(name):
    file = f"CT3DAssistantLib/{name}"
    if file in FILES:
        assert not {module.split(".")[0] for module in imported(file)} & QT, f"{file} imports Qt"


def test_the_scene_is_an_argument_and_never_a_global():
    in_application = ("CT3DAssistantLib/panels/", "CT3DAssistantLib/browser/", "CT3DAssistantLib/selftest/")
    for file in files_of("CT3DAssistantLib"):
        if file.startswith(in_application) or Path(file).name == "headless.py":  # which stands in for it
            continue
        for node in nodes(file):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "slicer":
                assert node.attr not in {"mrmlScene", "app", "modules"}, f"{file}:{node.lineno}"


@pytest.mark.parametrize("file", FILES)
def test_errors_are_caught_all_at_once_in_four_files_only(file):
    for node in nodes(file):
        if isinstance(node, ast.ExceptHandler) and catches_all(node):
            assert node.type is not None, f"{file}:{node.lineno} is a bare except"
            assert file in MAY_CATCH_ALL, f"{file}:{node.lineno} catches everything"
        if called(node) in ("suppress", "contextlib.suppress"):
            assert not {ast.unparse(kind) for kind in node.args} & {"Exception", "BaseException"}, file


@pytest.mark.parametrize("file", FILES)
def test_only_the_command_line_prints_and_only_programs_exit(file):
    for node in nodes(file):
        assert called(node) != "print" or file in MAY_PRINT, f"{file}:{node.lineno} prints"
        assert called(node) not in ("sys.exit", "exit", "quit") or file in MAY_EXIT, (
            f"{file}:{node.lineno} exits"
        )


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_configured_by_the_environment(file):
    for node in nodes(file):
        reads = called(node) in ("os.getenv", "os.environ.get") or (
            isinstance(node, ast.Subscript)
            and ast.unparse(node.value) == "os.environ"
            and isinstance(node.ctx, ast.Load)
        )
        assert not reads, f"{file}:{node.lineno} reads an environment variable"


@pytest.mark.parametrize("file", FILES)
def test_no_function_changes_a_global(file):
    assert not [node.lineno for node in nodes(file) if isinstance(node, ast.Global)], file


def test_each_file_is_whole_in_itself_and_not_too_long():
    """A question for review above 400 code lines."""
    for file in FILES:
        text = (CODE / file).read_text(encoding="utf-8")
        code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(code) <= 450, f"{file} has {len(code)} lines"


def test_importing_the_host_side_brings_no_torch():
    """What the static rules can't see: what those imports import in turn."""

    names = "ct3d.client.client, ct3d.imaging.files, ct3d.imaging.prepare, ct3d.imaging.exchange, ct3d.cards"
    code = f"import sys, {names}; print(sorted(set(sys.modules) & {TORCH | SLICER | QT!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CODE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
