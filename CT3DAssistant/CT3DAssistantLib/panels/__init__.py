"""The sections of the window, in reading order. A file that can't be imported costs its section only."""

PANELS = (  # file: class
    "case_panel:CasePanel",
    "report_panel:ReportPanel",
    "ask_panel:AskPanel",
    "region_panel:RegionPanel",
    "landmark_panel:LandmarkPanel",
    "finding_panel:FindingPanel",
    "saw_panel:SawPanel",
    "model_panel:ModelPanel",
)
