"""What Slicer and its extensions index read: the module file and the three descriptions of the extension."""

import json
import re
import shutil
import subprocess
import sys
import types
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("", "Widget", "Logic", "Test")
SCHEMA = json.loads(Path(__file__).with_name("catalog_entry_schema_1.0.2.json").read_text(encoding="utf-8"))
CATEGORIES = {"Analysis", "Informatics", "Quantification", "Segmentation"}  # of those that the index accepts
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")  # of the stand-in for Slicer's build tree


@pytest.fixture
def the_module_file(monkeypatch):
    """CT3DAssistant.py imported as Slicer does, over stand-ins for the application's own Python files."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in CLASSES:
        kind = types.new_class(f"ScriptedLoadableModule{name}")
        kind.__init__ = lambda self, parent=None: setattr(self, "parent", parent)
        setattr(base, kind.__name__, kind)
    words = types.ModuleType("slicer.i18n")
    words.tr, words.translate = (lambda text: text), (lambda _context, text: text)
    stand_ins = {"slicer": types.ModuleType("slicer"), "slicer.i18n": words, base.__name__: base}
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    before = set(sys.modules)
    spec = spec_from_file_location("CT3DAssistant", ROOT / "CT3DAssistant" / "CT3DAssistant.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not {each.partition(".")[0] for each in set(sys.modules) - before} & {"ct3d", "torch", "numpy"}
    return module


def test_the_module_file_has_the_four_classes_and_nothing_heavy_at_import(the_module_file):
    assert all(hasattr(the_module_file, f"CT3DAssistant{name}") for name in CLASSES)


def test_the_module_says_what_the_generic_test_wants_and_that_it_is_for_research(the_module_file):
    parent = types.SimpleNamespace()
    the_module_file.CT3DAssistant(parent)
    assert parent.title and parent.categories and parent.contributors and parent.acknowledgementText
    assert "Not for clinical use" in parent.helpText


def test_the_module_file_is_wiring_only():
    lines = (ROOT / "CT3DAssistant" / "CT3DAssistant.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200


def test_the_three_descriptions_of_the_extension_agree():
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    told = dict(re.findall(r'^set\(EXTENSION_(\w+) "(.*)"\)$', cmake, re.MULTILINE))
    lines = (ROOT / "CT3DAssistant.s4ext").read_text(encoding="utf-8").splitlines()
    s4ext = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    entry = json.loads((ROOT / "CT3DAssistant.json").read_text(encoding="utf-8"))
    assert told["CATEGORY"] == s4ext["category"] == entry["category"]
    assert told["DESCRIPTION"] == s4ext["description"]
    assert told["HOMEPAGE"] == s4ext["homepage"]
    assert s4ext["scmurl"] == entry["scm_url"]
    for key in ("ICONURL", "SCREENSHOTURLS"):
        assert (ROOT / told[key].split("/main/")[1]).is_file()


@pytest.fixture
def entry():
    """The extension's entry in the catalogue."""
    return json.loads((ROOT / "CT3DAssistant.json").read_text(encoding="utf-8"))


def check_entry(entry):
    """Raise where the extensions index would refuse an entry.

    The entry of an extension that is in no category of the index, or is no git repository, is refused too.
    """
    jsonschema = pytest.importorskip("jsonschema")
    try:
        jsonschema.validate(entry, SCHEMA)
    except jsonschema.ValidationError as error:
        raise ValueError(error.message) from None
    if entry["category"] not in CATEGORIES or not re.match(r"(https|git)://", entry["scm_url"]):
        raise ValueError("the index knows no such category or scheme")


def test_the_catalogue_entry_is_as_its_schema_and_the_index_want_it(entry):
    check_entry(entry)
    assert entry["dicom_support_rule"] == "Modality == 'CT'"
    text = (ROOT / "CT3DAssistant.json").read_bytes()
    assert b"\r" not in text
    project = re.search(r"project\((\w+)\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert project[1] == "CT3DAssistant", "the index compares it with the name of the entry's file"


@pytest.mark.parametrize(
    "wrong",
    [
        {"category": None},
        {"category": "Radiology"},
        {"scm_url": "CT3DAssistant"},
        {"scm_type": "svn"},
        {"tier": 6},
        {"tier": "1"},
        {"homepage": "https://example.org"},
        {"build_dependencies": "PyTorch"},
        {"$schema": "https://example.org"},
    ],
    ids=str,
)
def test_an_entry_that_the_index_would_refuse_is_found(entry, wrong):
    with pytest.raises(ValueError):
        check_entry(entry | wrong)


def run_cmake(*arguments):
    done = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = (
    "CT3DAssistant/ct3d/training/loop.py",
    "Resources/UI/NewPanel.ui",
    "CT3DAssistant/ct3d/new/part.py",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(source, build, install): the extension with new files, built against stand-ins for Slicer."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not here")
    folder = tmp_path_factory.mktemp("extension")
    source, build, install = folder / "source", folder / "build", folder / "install"
    for name in ("CT3DAssistant", "Resources", "Testing/cmake"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("CMakeLists.txt", "LICENSE", "README.md", "Testing/CMakeLists.txt"):
        shutil.copy(ROOT / name, source / name)
    for name in PLANTED:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("", encoding="utf-8")
    stand_in = f"-DSlicer_DIR={source / 'Testing' / 'cmake'}"
    run_cmake("-S", source, "-B", build, stand_in, "-DBUILD_TESTING=ON", "-DCMAKE_BUILD_TYPE=Release")
    run_cmake("--build", build)
    run_cmake("--install", build, "--prefix", install)
    return source, build, install


def files_below(folder):
    """Every file's path below a folder, but for what Python and editors leave behind."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def test_cmake_installs_every_python_file_but_training_and_every_resource(built):
    source, build, install = built
    code = {name for name in files_below(source / "CT3DAssistant") if name.endswith(".py")}
    wanted = {name for name in code if not name.startswith("ct3d/training/")}
    wanted |= {f"Resources/{name}" for name in files_below(source / "Resources")}
    assert {"ct3d/new/part.py", "Resources/UI/NewPanel.ui"} < wanted < wanted | code
    assert files_below(install / MODULES) == wanted
    assert files_below(build / MODULES) == wanted, "the build tree is run, too"


def test_ui_files_icons_cards_and_prompts_are_among_what_is_installed(built):
    resources = built[2] / MODULES / "Resources"
    for folder, pattern in (
        ("UI", "*.ui"),
        ("Icons", "*.svg"),
        ("ModelCards", "*.toml"),
        ("Prompts", "*.toml"),
    ):
        names = {path.name for path in (ROOT / "Resources" / folder).glob(pattern)}
        assert names and names <= {path.name for path in (resources / folder).glob(pattern)}


def test_the_tests_inside_the_application_are_registered(built):
    lines = (built[1] / "registered_tests.txt").read_text(encoding="utf-8").splitlines()
    assert "generic CT3DAssistant" in lines
    assert any("CT3DAssistant.py" in line and "--no-main-window" in line for line in lines)


def test_what_is_installed_finds_its_resources_and_has_no_training(built):
    modules = built[2] / MODULES
    code = (
        "from CT3DAssistantLib.resources import resource_path\n"
        "from ct3d.cards import load_cards\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('ct3d.training') is None\n"
        "print(resource_path('UI', 'CasePanel.ui'), len(load_cards()))"
    )
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=modules, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path, cards = done.stdout.split()
    assert Path(path).is_file() and Path(path).is_relative_to(modules) and int(cards) > 0
