"""The process that computes: python -m ct3d.worker."""
