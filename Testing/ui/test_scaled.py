"""Every panel at 200 %: its own test of what is cut, in a process where everything is enlarged."""

PANELS = ("ask", "case", "finding", "landmark", "model", "region", "report", "saw")


def test_no_panel_loses_text_at_200_percent(the_double, request, tmp_path_factory):
    import screens

    bundles = request.config.getoption("--bundles") or tmp_path_factory.mktemp("bundles")
    options = ["--worker-python", str(request.config.getoption("--worker-python")), "--bundles", str(bundles)]
    printed = screens.run_scaled("Testing/ui", "-k", "is_cut", "-rA", *options, timeout_s=900)
    passed = [line for line in printed.splitlines() if line.startswith("PASSED")]
    for panel in PANELS:
        assert any(f"test_{panel}_panel.py" in line for line in passed), f"{panel}: no test of what is cut"
    assert any("test_module.py" in line for line in passed), "the window: no test of what is cut"
