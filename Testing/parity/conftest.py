"""After the tests, one line for each case of the reference: how far its results were off."""


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.getreports("passed")
    found = [(each.nodeid, dict(each.user_properties).get("deviations")) for each in passed]
    if not any(deviations for _, deviations in found):
        return
    terminalreporter.section("greatest differences from the reference")
    for node, deviations in found:
        if deviations:
            terminalreporter.write_line(f"{node.partition('[')[2].rstrip(']')}  {deviations}")
