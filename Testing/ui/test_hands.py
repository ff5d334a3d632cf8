"""The hands of the panels' tests do what a person can, and nothing that a person can't."""

import pytest


@pytest.fixture
def qt(the_double):
    return the_double[1]


@pytest.fixture
def hands(qt):
    import hands

    return hands


@pytest.fixture
def a_window(qt):
    """Makes a shown window with widgets below each other."""
    made = []

    def window(*widgets):
        box = qt.QWidget()
        layout = qt.QVBoxLayout(box)
        for widget in widgets:
            layout.addWidget(widget)
        box.resize(350, 400)
        box.show()
        made.append(box)
        return box

    yield window
    for box in made:
        box.delete()


def test_a_click_reaches_what_can_be_seen_and_used(qt, hands, a_window):
    clicks, button, check = [], qt.QPushButton("Go"), qt.QCheckBox("A long text beside the box")
    a_window(button, check)
    button.connect("clicked()", lambda: clicks.append("go"))
    hands.click(button)
    hands.click(check)
    assert clicks == ["go"] and check.checked


@pytest.mark.parametrize("state", ["hidden", "disabled", "in a folded section"])
def test_what_a_person_can_not_use_fails(qt, hands, a_window, state):
    import ctk

    section, button = ctk.ctkCollapsibleButton(), qt.QPushButton("Go")
    qt.QVBoxLayout(section).addWidget(button)
    a_window(section)
    if state == "hidden":
        button.hide()
    elif state == "disabled":
        button.enabled = False
    else:
        section.collapsed = True
    with pytest.raises(AssertionError, match=r"hidden|disabled"):
        hands.click(button)
    section.collapsed = state == "in a folded section"
    hands.unfold(section)
    assert not section.collapsed


def test_what_something_else_covers_can_not_be_clicked(qt, hands, a_window):
    button = qt.QPushButton("Go")
    window = a_window(button)
    cover = qt.QFrame(window)
    cover.setGeometry(0, 0, 350, 400)
    cover.show()
    with pytest.raises(AssertionError, match="covers"):
        hands.click(button)


def test_keys_reach_shortcuts_and_fields(qt, hands, a_window):
    presses, field = [], qt.QLineEdit("before")
    window = a_window(field)
    shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+M"), window)
    shortcut.connect("activated()", lambda: presses.append("move"))
    hands.press(window, "Ctrl+M")
    hands.type_text(field, "liver")
    hands.type_text(field, " volume", instead=False)
    assert presses == ["move"] and field.text == "liver volume"


def test_an_item_is_chosen_without_passing_the_others(qt, hands, a_window):
    heard, combo = [], qt.QComboBox()
    combo.addItems(["Whole scan", "Liver", "Spleen"])
    combo.connect("currentIndexChanged(int)", heard.append)
    a_window(combo)
    hands.choose(combo, "Spleen")
    assert combo.currentText == "Spleen" and heard == [2]
    with pytest.raises(AssertionError, match="not among"):
        hands.choose(combo, "Pancreas")


def test_a_link_is_clicked_wherever_it_is_in_the_text(qt, hands, a_window):
    heard, browser = [], qt.QTextBrowser()
    browser.openLinks = False
    browser.setHtml("<p>line</p>" * 60 + "<p>The <a href='region/liver'>liver</a> is normal.</p>")
    browser.connect("anchorClicked(QUrl)", lambda url: heard.append(url.toString()))
    a_window(browser)
    hands.click_link(browser, "region/liver")
    assert heard == ["region/liver"]
    with pytest.raises(AssertionError, match="no link region/spleen"):
        hands.click_link(browser, "region/spleen")


def test_a_cell_is_scrolled_to_and_clicked(qt, hands, a_window):
    heard, table = [], qt.QTableWidget(60, 2)
    table.connect("cellClicked(int,int)", lambda row, column: heard.append((row, column)))
    table.connect("cellDoubleClicked(int,int)", lambda *_cell: heard.append("twice"))
    a_window(table)
    hands.click_cell(table, 55, 1)
    hands.click_cell(table, 0, 0, twice=True)
    assert heard[0] == (55, 1) and "twice" in heard


def test_a_column_is_sorted_by_its_header(qt, hands, a_window):
    table = qt.QTableWidget(2, 1)
    table.setHorizontalHeaderLabels(["Value"])
    for row, text in enumerate(("a", "b")):
        table.setItem(row, 0, qt.QTableWidgetItem(text))
    table.sortingEnabled = True
    a_window(table)
    hands.click_header(table, 0)
    first = table.item(0, 0).text()
    hands.click_header(table, 0)
    assert {first, table.item(0, 0).text()} == {"a", "b"}


def test_a_slider_is_brought_to_a_value_with_its_keys(qt, hands, a_window):
    slider = qt.QSlider(qt.Qt.Horizontal)
    a_window(slider)
    hands.slide(slider, 37)
    assert slider.value == 37
