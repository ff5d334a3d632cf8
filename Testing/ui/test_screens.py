"""The eyes of the panels' tests find every kind of cut text, and leave alone what can be read."""

import os

import pytest

LONG = "Right lower lobe, posterior basal segment, next to the oblique fissure and the diaphragm"
WORD = "Pneumonoultramicroscopicsilicovolcanoconiosis-and-more-of-the-same"


@pytest.fixture
def qt(the_double):
    return the_double[1]


@pytest.fixture
def screens(qt):
    import screens

    return screens


@pytest.fixture
def a_window(qt, screens):
    """Makes a shown window of a width with widgets below each other."""
    made = []

    def window(*widgets, width=350):
        box = qt.QWidget()
        layout = qt.QVBoxLayout(box)
        for widget in widgets:
            layout.addWidget(widget)
        screens.lay_out(box, width)
        made.append(box)
        return box

    yield window
    for box in made:
        box.delete()


def a_label(qt, text, wraps=False):
    label = qt.QLabel(text)
    label.wordWrap = wraps
    return label


def narrow(widget, width=120):
    widget.setMaximumWidth(width)
    return widget


def a_table(qt, text, title="A", width=60):
    table = qt.QTableWidget(1, 1)
    table.setHorizontalHeaderLabels([title])
    table.setItem(0, 0, qt.QTableWidgetItem(text))
    table.setWordWrap(False)
    table.setColumnWidth(0, width)
    return table


def a_low_label(qt):
    label = a_label(qt, LONG, wraps=True)
    label.setMaximumHeight(20)
    return label


def a_combo(qt, text):
    combo = qt.QComboBox()
    combo.addItem(text)
    return combo


def a_field(qt, placeholder):
    field = qt.QLineEdit()
    field.placeholderText = placeholder
    return field


def a_browser(qt, text):
    browser = qt.QTextBrowser()
    browser.plainText = text
    return browser


def a_browser_without_wrap(qt, text):
    browser = a_browser(qt, text)
    browser.lineWrapMode = qt.QTextBrowser.NoWrap
    return browser


def a_bar(qt, form):
    bar = qt.QProgressBar()
    bar.maximum, bar.value, bar.format = 10, 3, form
    return narrow(bar)


def a_group(qt, title):
    group = qt.QGroupBox()
    group.title = title
    return narrow(group)


def tabs(qt, *names):
    bar = qt.QTabBar()
    for name in names:
        bar.addTab(name)
    return bar


CUT = {
    "label": lambda qt: narrow(a_label(qt, LONG)),
    "rich label": lambda qt: narrow(a_label(qt, f"<b>{LONG}</b>")),
    "wrapped label without height": a_low_label,
    "word wider than its label": lambda qt: narrow(a_label(qt, WORD, wraps=True)),
    "push button": lambda qt: narrow(qt.QPushButton(LONG)),
    "check box": lambda qt: narrow(qt.QCheckBox(LONG)),
    "radio button": lambda qt: narrow(qt.QRadioButton(LONG)),
    "combo box": lambda qt: narrow(a_combo(qt, LONG)),
    "placeholder": lambda qt: narrow(a_field(qt, LONG)),
    "cell": lambda qt: a_table(qt, LONG),
    "header": lambda qt: a_table(qt, "1", title=LONG),
    "text that must be scrolled sideways": lambda qt: a_browser_without_wrap(qt, LONG * 2),
    "progress bar": lambda qt: a_bar(qt, LONG),
    "group box": lambda qt: a_group(qt, LONG),
    "tab": lambda qt: narrow(tabs(qt, LONG, LONG)),
}
WHOLE = {
    "label": lambda qt: a_label(qt, "Right lower lobe"),
    "rich label": lambda qt: a_label(qt, f"<b>{LONG}</b>", wraps=True),
    "wrapped label": lambda qt: a_label(qt, LONG, wraps=True),
    "push button": lambda qt: qt.QPushButton("&Analyze"),
    "check box": lambda qt: qt.QCheckBox("Second reader"),
    "radio button": lambda qt: qt.QRadioButton("Whole scan"),
    "combo box": lambda qt: a_combo(qt, "Whole scan"),
    "placeholder": lambda qt: a_field(qt, "Ask about this scan"),
    "cell": lambda qt: a_table(qt, "12.5 ml", width=90),
    "long text in a browser": lambda qt: a_browser(qt, f"{LONG}\n" * 40),
    "progress bar": lambda qt: a_bar(qt, "%p %"),
    "group box": lambda qt: a_group(qt, "Scope"),
    "tab": lambda qt: tabs(qt, "Axial", "Coronal"),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_text_is_found(qt, screens, a_window, kind):
    assert len(screens.cut_texts(a_window(CUT[kind](qt)))) >= 1


@pytest.mark.parametrize("kind", WHOLE)
def test_a_text_that_can_be_read_is_left_alone_so_nothing_is_cut(qt, screens, a_window, kind):
    assert screens.cut_texts(a_window(WHOLE[kind](qt))) == []


def test_what_sticks_out_of_its_parent_is_found(qt, screens, a_window):
    holder = qt.QWidget()
    holder.setFixedHeight(30)
    label = qt.QLabel("Moved out", holder)
    label.move(320, 4)
    assert any("sticks out" in line for line in screens.cut_texts(a_window(holder)))


def test_what_a_person_can_scroll_down_to_is_not_cut(qt, screens, a_window):
    area, inside = qt.QScrollArea(), qt.QWidget()
    layout = qt.QVBoxLayout(inside)
    for n in range(60):
        layout.addWidget(qt.QLabel(f"Line {n}"))
    area.setWidget(inside)
    area.widgetResizable = True
    area.setMaximumHeight(100)
    assert screens.cut_texts(a_window(area)) == []


def test_what_is_hidden_does_not_count(qt, screens, a_window):
    label = narrow(a_label(qt, LONG))
    window = a_window(label)
    label.hide()
    assert screens.cut_texts(window) == []


def test_a_folded_sections_title_counts_too(qt, screens, a_window):
    import ctk

    section = narrow(ctk.ctkCollapsibleButton())
    section.text, section.collapsed = LONG, True
    assert len(screens.cut_texts(a_window(section))) == 1
    section.text = "Report"
    assert screens.cut_texts(section) == []


def test_what_can_not_be_made_narrow_enough_is_named(qt, a_window):
    button = qt.QPushButton("Wide")
    button.name = "wideButton"
    button.setMinimumWidth(400)
    with pytest.raises(AssertionError, match="350 wide"):
        a_window(button)


def test_a_picture_is_as_wide_as_asked_and_dark_where_asked(qt, screens, a_window, tmp_path):
    window = a_window(qt.QLabel("Research use only"))
    light = qt.QImage(str(screens.grab(window, tmp_path / "light.png")))
    dark = qt.QImage(str(screens.grab(window, tmp_path / "dark.png", dark=True)))
    assert light.width() == dark.width() == round(350 * window.devicePixelRatioF())
    assert qt.QColor(light.pixel(2, 2)).lightness() > 200 > 80 > qt.QColor(dark.pixel(2, 2)).lightness()


def test_a_window_has_the_scale_it_was_asked_for(a_window, qt):
    scale = float(os.environ.get("QT_SCALE_FACTOR", "1"))
    assert a_window(qt.QLabel("x")).devicePixelRatioF() == scale


def test_at_another_scale_the_checks_run_in_their_own_process(screens):
    printed = screens.run_scaled("Testing/ui/test_screens.py", "-k", "scale_it_was_asked or wider")
    assert "2 passed" in printed


def test_what_fails_at_another_scale_fails_here(screens):
    with pytest.raises(AssertionError, match="deselected"):
        screens.run_scaled("Testing/ui/test_screens.py", "-k", "no_such_test")
