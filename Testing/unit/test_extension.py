"""What Slicer and its extensions index read: the module file and the three descriptions of the extension."""

import json
import re
import sys
import types
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("", "Widget", "Logic", "Test")
ALLOWED = {  # of schema v1.0.2 of a catalogue entry
    "$schema",
    "build_dependencies",
    "build_subdirectory",
    "category",
    "dicom_support_rule",
    "enabled",
    "scm_revision",
    "scm_type",
    "scm_url",
    "tier",
}


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
    assert set(entry) <= ALLOWED
    for key in ("ICONURL", "SCREENSHOTURLS"):
        assert (ROOT / told[key].split("/main/")[1]).is_file()
