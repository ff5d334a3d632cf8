"""Volumes, grids and files: numpy, and SimpleITK in files.py, resample.py and labels.py only."""
