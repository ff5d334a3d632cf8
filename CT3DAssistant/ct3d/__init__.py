"""The engine of CT3DAssistant: reads a CT without knowing Slicer. Imports nothing by itself."""

__version__ = "0.1.0"
