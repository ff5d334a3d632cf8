"""The host: knows MRML, never torch. Slicer's module, the command line and the browser share it."""
