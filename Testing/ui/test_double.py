"""The double keeps every rule of PythonQt that panels must hold to: each test fails where it forgets one."""

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Form</class>
<widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout" name="outer"><item>
 <widget class="ctkCollapsibleButton" name="section">
  <property name="text"><string>Section</string></property>
  <layout class="QVBoxLayout" name="inner">
   <item><widget class="QPushButton" name="applyButton">
    <property name="text"><string>Apply</string></property></widget></item>
   <item><widget class="qMRMLNodeComboBox" name="volumeSelector">
    <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
    <property name="noneEnabled"><bool>true</bool></property></widget></item>
   <item><widget class="ctkPathLineEdit" name="pathEdit">
    <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::NoDotDot</set></property>
   </widget></item>
  </layout></widget></item></layout></widget>
<connections><connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>volumeSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections>
</ui>"""


@pytest.fixture
def qt(the_double):
    return the_double[1]


@pytest.fixture
def slicer(the_double):
    import slicer

    return slicer


@pytest.fixture
def a_form(slicer, tmp_path):
    """The root of a form that a .ui file describes, and its named widgets."""
    path = tmp_path / "Form.ui"
    path.write_text(UI, encoding="utf-8")
    root = slicer.util.loadUI(str(path))
    return root, slicer.util.childWidgetVariables(root)


@pytest.fixture
def spin_qt(the_double):
    """Lets the event loop turn until a condition holds."""

    def spin(is_true, within_s=20.0):
        deadline = time.monotonic() + within_s
        while not is_true():
            assert time.monotonic() < deadline, "it never came to pass"
            the_double[0].processEvents()

    return spin


@pytest.fixture
def heard():
    """A slot that keeps what it was called with."""
    calls = []
    return calls, lambda *args: calls.append(args)


# properties


def test_a_property_is_an_attribute_and_calling_it_a_type_error(qt):
    label, combo, table = qt.QLabel("a"), qt.QComboBox(), qt.QTableWidget(2, 3)
    assert (label.text, combo.count, table.rowCount, table.columnCount) == ("a", 0, 2, 3)
    for read in (lambda: label.text(), lambda: combo.count(), lambda: table.rowCount()):
        with pytest.raises(TypeError):
            read()


def test_a_property_is_set_by_assignment_and_by_its_setter(qt):
    label = qt.QLabel()
    label.text = "a"
    assert label.text == "a"
    label.setText("b")
    assert label.text == "b"
    label.enabled = False
    assert (label.enabled, label.isEnabled(), label.isVisible()) == (False, False, False)


def test_properties_of_what_a_ui_file_made_are_attributes_too(a_form):
    _root, ui = a_form
    assert ui.applyButton.text == "Apply"
    with pytest.raises(TypeError):
        ui.applyButton.text()
    with pytest.raises(TypeError):
        ui.section.text()


def test_properties_of_what_qt_itself_made_are_attributes_too(qt):
    table = qt.QTableWidget(1, 2)
    assert table.horizontalHeader().defaultSectionSize > 0
    with pytest.raises(TypeError):
        table.horizontalHeader().defaultSectionSize()


def test_what_is_no_property_stays_a_method(qt):
    item, edit = qt.QTableWidgetItem("a"), qt.QPlainTextEdit()
    assert item.text() == "a"
    assert edit.toPlainText() == edit.plainText == ""
    assert callable(item.text)
    assert edit.document().isEmpty()


def test_geometry_and_hints_are_properties(qt):
    widget = qt.QLabel("a")
    widget.resize(120, 30)
    assert (widget.width, widget.height, widget.size.width(), widget.rect.height()) == (120, 30, 120, 30)
    assert widget.sizeHint.width() > 0
    with pytest.raises(TypeError):
        widget.sizeHint()


def test_a_property_that_can_only_be_read_says_so(qt):
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


@pytest.mark.parametrize("value", [np.float64(3.0), np.int64(3), 3.0, "3", None, True])
def test_an_int_property_takes_an_int_only(qt, value):
    bar = qt.QProgressBar()
    with pytest.raises(AttributeError, match="does not accept"):
        bar.value = value
    bar.value = 3
    assert bar.value == 3


@pytest.mark.parametrize(
    ("name", "value"), [("text", None), ("text", 5), ("enabled", None), ("enabled", "yes")]
)
def test_a_property_takes_its_own_type_only(qt, name, value):
    with pytest.raises(AttributeError, match="does not accept"):
        setattr(qt.QPushButton(), name, value)


def test_a_numpy_number_in_a_call_is_an_error(qt):
    bar = qt.QProgressBar()
    for value in (np.float64(3.0), np.int64(3), np.bool_(True)):
        with pytest.raises(TypeError, match="int\\(\\) or float\\(\\)"):
            bar.setValue(value)


def test_the_object_name_is_also_called_name(qt):
    label = qt.QLabel()
    label.objectName = "title"
    assert label.name == "title"
    label.name = "other"
    assert label.objectName == "other"


# signals


def test_a_signal_is_connected_by_signature_and_its_arguments_follow_the_signature(qt, heard):
    calls, slot = heard
    button = qt.QPushButton()
    assert button.connect("clicked()", slot) is True
    button.click()
    assert calls == [()]
    assert button.connect("clicked(bool)", slot) is True
    button.click()
    assert calls == [(), (), (False,)]


def test_connecting_by_the_signal_itself_passes_its_argument(qt, heard):
    calls, slot = heard
    button = qt.QPushButton()
    assert button.clicked.connect(slot) is True
    button.click()
    assert calls == [(False,)]


def test_an_unknown_signal_prints_and_gives_false(qt, heard, capfd):
    _calls, slot = heard
    assert qt.QPushButton().connect("pressed(int)", slot) is False
    assert "pressed(int)" in capfd.readouterr().err
    with pytest.raises(AttributeError):
        qt.QPushButton().clack.connect(slot)


def test_a_signature_is_normalised_before_it_is_looked_up(qt, heard):
    calls, slot = heard
    edit = qt.QLineEdit()
    assert edit.connect("textChanged( const QString & )", slot) is True
    edit.text = "a"
    assert calls == [("a",)]


def test_a_python_function_gets_no_more_arguments_than_it_has(qt):
    calls, button = [], qt.QPushButton()
    button.connect("clicked(bool)", lambda: calls.append("bare"))
    button.connect("clicked(bool)", lambda row=7: calls.append(row))
    button.click()
    assert calls == ["bare", False], "a default is filled from the signal, too"


def test_disconnecting_undoes_connecting(qt, heard):
    calls, slot = heard
    button = qt.QPushButton()
    button.connect("clicked()", slot)
    assert button.disconnect("clicked()", slot) is True
    assert button.disconnect("clicked()", slot) is False
    button.clicked.connect(slot)
    assert button.clicked.disconnect(slot) is True
    button.click()
    assert calls == []


def test_a_connection_keeps_its_slot_alive(qt):
    class Counter:
        clicks = 0

        def count(self):
            Counter.clicks += 1

    button = qt.QPushButton()
    button.connect("clicked()", Counter().count)
    gc.collect()
    button.click()
    assert Counter.clicks == 1


def test_objects_in_a_signal_come_wrapped(qt, heard):
    calls, slot = heard
    table, browser = qt.QTableWidget(1, 1), qt.QTextBrowser()
    table.connect("itemChanged(QTableWidgetItem*)", slot)
    table.setItem(0, 0, qt.QTableWidgetItem("a"))
    assert calls[0][0].text() == "a"
    browser.connect("anchorClicked(QUrl)", slot)
    browser.anchorClicked.emit(qt.QUrl("evidence:x"))
    assert calls[1][0].toString() == "evidence:x"


def test_an_error_in_a_slot_is_printed_and_the_event_loop_goes_on(qt, monkeypatch):
    def fail():
        raise KeyError("in a slot")

    printed, button = [], qt.QPushButton()
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, _trace: printed.append((kind, str(error))))
    button.connect("clicked()", fail)
    button.click()
    assert printed == [(KeyError, "'in a slot'")]


def test_there_is_no_way_to_declare_a_signal_a_slot_or_a_property(qt):
    for name in ("Signal", "Slot", "Property", "SIGNAL", "SLOT", "pyqtSignal"):
        assert not hasattr(qt, name)


# calls


def test_keyword_arguments_are_refused_in_constructors_and_calls(qt, slicer):
    table = qt.QTableWidget()
    calls = (
        lambda: qt.QLabel(text="a"),
        lambda: qt.QPushButton("a", parent=None),
        lambda: slicer.qMRMLNodeComboBox(parent=None),
        lambda: table.setItem(row=0, column=0, item=qt.QTableWidgetItem()),
        lambda: table.findChildren(kind=qt.QWidget),
        lambda: qt.QTimer.singleShot(msec=0, functor=print),
        lambda: table.connect(signal="cellClicked(int,int)", slot=print),
    )
    for call in calls:
        with pytest.raises(ValueError, match="keyword arguments"):
            call()


def test_a_call_whose_arguments_match_no_overload_is_refused(qt):
    button = qt.QPushButton()
    calls = (
        lambda: button.setText(5),
        lambda: button.setShortcut("Ctrl+A"),  # PySide would make a QKeySequence of it
        lambda: qt.QDesktopServices.openUrl("https://example.org"),  # and a QUrl
        lambda: qt.QProgressBar().setValue(2.5),  # and cut it
        lambda: qt.QTableWidgetItem("a").setForeground("red"),
        lambda: button.setEnabled(1, 2),
    )
    for call in calls:
        with pytest.raises(ValueError, match="overload"):
            call()


def test_overloads_are_told_apart_by_the_enumeration_of_an_int(qt):
    copy = qt.QKeySequence(qt.QKeySequence.Copy)
    assert copy.toString() == "Ctrl+C"
    assert qt.QKeySequence(qt.Qt.Key_A).toString() == "A"


def test_lists_come_out_as_tuples(qt):
    table, window = qt.QTableWidget(2, 1), qt.QWidget()
    layout = qt.QVBoxLayout(window)
    layout.addWidget(table)
    table.setItem(0, 0, qt.QTableWidgetItem("a"))
    table.selectAll()
    lists = (
        table.selectedItems(),
        table.selectedIndexes(),
        window.children(),
        window.findChildren(qt.QTableWidget),
        table.findItems("a", qt.Qt.MatchExactly),
        qt.QKeySequence.listFromString("A;B"),
        qt.QProcessEnvironment.systemEnvironment().keys(),
    )
    assert all(isinstance(each, tuple) and each for each in lists)


def test_bytes_come_out_of_a_byte_array_by_data_only(qt):
    array = qt.QByteArray(b"a\x00b")
    assert array.data() == b"a\x00b"
    for read in (lambda: bytes(array), lambda: len(array), lambda: list(array), lambda: array[0]):
        with pytest.raises(TypeError):
            read()


def test_a_trailing_underscore_finds_names_that_python_once_reserved(qt):
    with pytest.raises(RuntimeError, match="wait for a person"):
        qt.QDialog().exec_()


# classes


def test_classes_are_strangers_and_only_inherits_knows(qt, a_form):
    button = qt.QPushButton()
    assert not isinstance(button, qt.QWidget)
    assert not isinstance(button, qt.QAbstractButton)
    assert not issubclass(qt.QPushButton, qt.QWidget)
    assert isinstance(button, qt.QPushButton)
    assert button.inherits("QWidget") and button.inherits("QPushButton") and not button.inherits("QLabel")
    assert a_form[1].section.inherits("QAbstractButton") and a_form[1].volumeSelector.inherits("QWidget")
    assert not a_form[1].volumeSelector.inherits("QComboBox"), "it holds one, it isn't one"


def test_a_class_name_is_asked_for_by_a_method(qt, a_form):
    assert qt.QPushButton().className() == "QPushButton"
    assert a_form[1].section.className() == "ctkCollapsibleButton"


def test_new_attributes_are_refused_except_on_python_subclasses(qt, a_form):
    class Card(qt.QLabel):
        pass

    for plain in (qt.QLabel(), qt.QTableWidgetItem(), a_form[1].applyButton, a_form[0]):
        with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects"):
            plain.region = "liver"
    card = Card("a")
    card.region, card.text = "liver", "b"
    assert (card.region, card.text, card.inherits("QLabel")) == ("liver", "b", True)


def test_a_method_can_not_be_replaced_on_an_object(qt):
    with pytest.raises(AttributeError):
        qt.QLabel().setText = print


def test_a_python_subclass_hears_virtual_calls(qt, the_double):
    class Canvas(qt.QWidget):
        painted = None

        def paintEvent(self, event):
            self.painted = event.rect().width()

    canvas = Canvas()
    canvas.resize(50, 40)
    canvas.show()
    the_double[0].processEvents()
    assert canvas.painted == 50
    canvas.delete()


def test_ctk_and_qmrml_classes_and_the_loader_can_not_be_subclassed(qt, slicer):
    import ctk

    for base in (ctk.ctkCollapsibleButton, slicer.qMRMLNodeComboBox, slicer.qMRMLWidget, qt.QUiLoader):
        with pytest.raises(TypeError, match="subclassed"):
            type("Mine", (base,), {})


def test_what_has_no_stand_in_is_missing_loudly(qt, slicer, tmp_path):
    import ctk

    for module, name in ((ctk, "ctkSliderWidget"), (slicer, "qMRMLSegmentsTableView"), (qt, "QNothing")):
        with pytest.raises(AttributeError):
            getattr(module, name)
    path = tmp_path / "Form.ui"
    path.write_text(UI.replace("ctkPathLineEdit", "ctkSliderWidget"), encoding="utf-8")
    with pytest.raises(RuntimeError):
        slicer.util.loadUI(str(path))


def test_an_object_is_the_same_wherever_it_comes_from(qt):
    window = qt.QWidget()
    layout = qt.QVBoxLayout(window)
    button = qt.QPushButton("a")
    layout.addWidget(button)
    assert window.children()[1] is button
    assert button.parent() == window and button.parent() is window
    assert {button: "known"}[window.findChild(qt.QPushButton)] == "known"
    assert window.findChild(qt.QLabel) is None


def test_values_are_equal_by_what_they_hold(qt):
    assert qt.QUrl("evidence:x") == qt.QUrl("evidence:x")
    assert qt.QUrl("evidence:x") != qt.QUrl("evidence:y")
    assert qt.QLabel("a") != qt.QLabel("a")


def test_a_deleted_object_is_false_and_refuses_to_be_read(qt):
    label = qt.QLabel("a")
    assert label
    label.delete()
    assert not label
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text


def test_what_only_one_of_the_two_qt_versions_has_is_not_offered(qt, heard):
    _calls, slot = heard
    assert qt.QCheckBox().connect("checkStateChanged(Qt::CheckState)", slot) is False  # since Qt 6.7
    for read in (lambda: qt.QColor.fromString, lambda: qt.QProcess().startCommand, lambda: qt.QPrinter.A4):
        with pytest.raises(AttributeError):
            read()


def test_what_is_null_invalid_or_empty_is_false(qt):
    window = qt.QWidget()
    layout = qt.QVBoxLayout(window)
    for nothing in (layout, qt.QIcon(), qt.QUrl(), qt.QColor(), qt.QTextDocument(), qt.QProcessEnvironment()):
        assert not nothing and nothing is not None
    label = qt.QLabel()
    layout.addWidget(label)
    label.show()
    for something in (window, label, qt.QUrl("a"), qt.QColor("red"), qt.QTableWidgetItem("")):
        assert something


# enumerators


def test_enumerators_are_ints_by_their_short_names(qt):
    assert qt.Qt.AlignLeft == 1 and isinstance(qt.Qt.AlignLeft, int)
    both = qt.Qt.AlignLeft | qt.Qt.AlignVCenter
    assert type(both) is int and both == 0x81
    assert qt.QTableWidget.SelectRows == qt.QAbstractItemView.SelectRows, "derived classes know them, too"
    for kind, name in ((qt.Qt.AlignmentFlag, "AlignLeft"), (qt.QHeaderView.ResizeMode, "Stretch")):
        with pytest.raises(AttributeError):
            getattr(kind, name)


def test_enumerators_go_in_and_come_out_as_ints(qt):
    label, item = qt.QLabel(), qt.QTableWidgetItem("a")
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignTop)
    assert label.alignment == 0x22
    label.alignment = qt.Qt.AlignLeft
    assert label.alignment == 1
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    assert isinstance(item.flags(), int) and not item.flags() & qt.Qt.ItemIsEditable
    item.setData(qt.Qt.UserRole + 1, "region/liver")
    assert item.data(qt.Qt.UserRole + 1) == "region/liver"


def test_an_enumerator_of_another_enumeration_is_refused(qt):
    table = qt.QTableWidget(1, 1)
    header = table.horizontalHeader()
    header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
    assert header.sectionResizeMode(0) == qt.QHeaderView.Stretch
    with pytest.raises(ValueError, match="overload"):
        header.setSectionResizeMode(0, qt.Qt.AlignLeft)


# what would wait for a person


def test_windows_that_wait_for_a_person_are_errors_unless_the_test_answers(qt, monkeypatch):
    waits = (
        lambda: qt.QMessageBox.question(None, "a", "b"),
        lambda: qt.QMessageBox().exec(),
        lambda: qt.QDialog().exec(),
        lambda: qt.QFileDialog.getSaveFileName(None, "Save"),
        lambda: qt.QInputDialog.getText(None, "a", "b"),
        lambda: qt.QMenu().exec(),
    )
    for wait in waits:
        with pytest.raises(RuntimeError, match="wait for a person"):
            wait()
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: "/tmp/report.pdf"))
    assert qt.QFileDialog.getSaveFileName(None, "Save") == "/tmp/report.pdf"


# what panels are made of


def test_timers_fire_once_and_again(qt, spin_qt):
    calls, timer = [], qt.QTimer()
    qt.QTimer.singleShot(0, lambda: calls.append("shot"))
    timer.setInterval(1)
    timer.connect("timeout()", lambda: calls.append("tick"))
    timer.start()
    assert timer.active and timer.isActive() and timer.singleShot is False
    spin_qt(lambda: calls.count("tick") > 2 and "shot" in calls)
    timer.stop()


def test_a_process_is_heard_by_its_signals(qt, spin_qt):
    output, ended, process = [], [], qt.QProcess()
    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("SCAN", "ct")
    process.setProcessEnvironment(environment)
    process.connect(
        "readyReadStandardOutput()", lambda: output.append(process.readAllStandardOutput().data())
    )
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-c", "import os; print(os.environ['SCAN'], input())"])
    process.write(b"chest\n")
    process.closeWriteChannel()
    spin_qt(lambda: ended)
    assert ended == [(0, qt.QProcess.NormalExit)]
    assert b"".join(output).split() == [b"ct", b"chest"]
    assert process.state() == qt.QProcess.NotRunning


def test_settings_are_kept_in_a_folder_of_the_tests(qt):
    settings = qt.QSettings()
    settings.setValue("CT3DAssistant/readerName", "A. Reader")
    assert qt.QSettings().value("CT3DAssistant/readerName", "") == "A. Reader"
    assert settings.value("CT3DAssistant/none") is None
    assert "settings-" in settings.fileName()


def test_keys_links_text_and_pictures_work(qt):
    browser, clipboard = qt.QTextBrowser(), qt.QApplication.clipboard()
    browser.setOpenLinks(False)
    assert browser.openLinks is False
    browser.setHtml("<a href='sentence/1'>One</a>")
    assert "sentence/1" in browser.toHtml()
    clipboard.setText("copied")
    assert clipboard.text() == "copied"
    picture = qt.QPixmap(16, 16)
    picture.fill(qt.QColor("#ff0000"))
    painter = qt.QPainter(picture)
    painter.setPen(qt.QColor(0, 0, 255))
    painter.drawText(2, 12, "x")
    painter.end()
    button = qt.QToolButton()
    button.icon = qt.QIcon(picture)
    assert not button.icon.isNull()
    assert qt.QFont("Sans", 10).pointSize() == 10


def test_a_document_is_printed_to_pdf(qt, tmp_path):
    document = qt.QTextDocument()
    document.setHtml("<h1>Report</h1>Research use only.")
    writer = qt.QPdfWriter(str(tmp_path / "a.pdf"))
    document.print(writer)
    printer = qt.QPrinter(qt.QPrinter.HighResolution)
    printer.setOutputFormat(qt.QPrinter.PdfFormat)
    printer.setOutputFileName(str(tmp_path / "b.pdf"))
    document.print_(printer)
    del writer, printer
    assert all((tmp_path / name).read_bytes().startswith(b"%PDF") for name in ("a.pdf", "b.pdf"))


# the stand-ins for ctk and qMRML


def test_a_section_folds_what_it_shows_and_nothing_else(qt, a_form, heard):
    calls, slot = heard
    root, ui = a_form
    root.show()
    ui.pathEdit.hide()
    assert ui.section.connect("contentsCollapsed(bool)", slot) is True
    ui.section.collapsed = True
    assert calls == [(True,)] and not ui.applyButton.visible
    ui.section.collapsed = False
    assert calls == [(True,), (False,)] and ui.applyButton.visible
    assert not ui.pathEdit.visible, "what was hidden before stays hidden"
    assert qt.QLabel("").inherits("QWidget")
    root.delete()


def test_what_happens_below_a_folded_section_is_seen_when_it_opens(a_form, qt):
    root, ui = a_form
    root.show()
    ui.section.collapsed = True
    ui.pathEdit.visible = False
    ui.applyButton.visible = True
    late = qt.QLabel("late", ui.section)
    late.show()
    assert not any(each.visible for each in (ui.pathEdit, ui.applyButton, late))
    ui.section.collapsed = False
    assert ui.applyButton.visible and late.visible and not ui.pathEdit.visible
    root.delete()


def test_a_section_that_a_ui_file_folds_shows_nothing_until_it_is_opened(slicer, tmp_path):
    path = tmp_path / "Folded.ui"
    title = '<property name="text"><string>Section</string></property>'
    folded = title + '<property name="collapsed"><bool>true</bool></property>'
    path.write_text(UI.replace(title, folded), encoding="utf-8")
    root = slicer.util.loadUI(str(path))
    ui = slicer.util.childWidgetVariables(root)
    root.show()
    assert ui.section.collapsed and not ui.applyButton.visible
    ui.section.collapsed = False
    assert ui.applyButton.visible
    root.delete()


def test_a_selector_follows_the_scene_that_the_form_hands_on(slicer, a_form, heard):
    calls, slot = heard
    root, ui = a_form
    scene = slicer.vtkMRMLScene()
    assert ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", slot) is True
    root.setMRMLScene(scene)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    scene.AddNewNodeByClass("vtkMRMLModelNode", "Not a volume")
    assert ui.volumeSelector.nodeCount() == 1 and ui.volumeSelector.currentNode() is None
    ui.volumeSelector.setCurrentNode(volume)
    assert ui.volumeSelector.connect("currentNodeChanged(bool)", slot) is True
    assert calls == [(volume,)] and ui.volumeSelector.currentNodeID == volume.GetID()
    scene.RemoveNode(volume)
    assert calls[1:] == [(None,), (False,)] and ui.volumeSelector.currentNode() is None
    root.delete()


def test_a_selector_without_none_chooses_the_first_node_and_a_new_one(slicer):
    scene, selector = slicer.vtkMRMLScene(), slicer.qMRMLNodeComboBox()
    first = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(scene)
    assert selector.currentNode() is first and selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert selector.addNode() is selector.currentNode() is not first


def test_a_selector_hides_what_it_is_told_to(slicer):
    scene, selector = slicer.vtkMRMLScene(), slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(scene)
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT").SetAttribute("role", "ct")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Masks")
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hidden").SetHideFromEditors(True)
    assert selector.nodeCount() == 2 + 1, "a node that was hidden after it came is still shown"
    selector.showHidden = False
    assert selector.nodeCount() == 2
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert selector.nodeCount() == 1
    selector.addAttribute("vtkMRMLScalarVolumeNode", "role", "mr")
    assert selector.nodeCount() == 0


def test_a_path_field_has_the_genuine_filters(a_form, heard):
    import ctk

    calls, slot = heard
    edit = a_form[1].pathEdit
    assert edit.filters == ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.NoDotDot == 0x4001
    assert edit.connect("currentPathChanged(QString)", slot) is True
    edit.currentPath = "/tmp"
    assert calls == [("/tmp",)] and edit.currentPath == "/tmp"


# the whole


def test_installing_twice_gives_the_same(the_double):
    import pythonqt_double

    application, qt = pythonqt_double.install()
    assert application == the_double[0] and qt is the_double[1] is sys.modules["qt"]


def test_the_list_of_members_that_lints_and_double_go_by_agrees_with_qt(qt):
    from pythonqt_double import properties
    from pythonqt_match import MEMBERS

    known = {name: getattr(qt, name) for name in MEMBERS if hasattr(qt, name)}
    assert len(known) > 150
    for name, kind in known.items():
        if "objectName" in dir(kind.real):
            bases = [each.__name__ for each in kind.real.__mro__ if each.__name__ in MEMBERS]
            listed = {each for base in bases for each in MEMBERS[base]["properties"]}
            assert listed | {"name"} == set(properties(kind.real)), f"run tools/qt_members.py: {name}"


def test_it_starts_and_ends_cleanly_with_warnings_as_errors():
    code = (
        "import pythonqt_double; app, qt = pythonqt_double.install(); import ctk\n"
        "w = qt.QWidget(); b = qt.QPushButton('a', w); b.connect('clicked()', lambda: None)\n"
        "s = ctk.ctkCollapsibleButton(w); w.show(); app.processEvents(); b.click()"
    )
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", code]
    environment = {"QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(HERE), "HOME": str(HERE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr and "Fatal" not in done.stderr, done.stderr
