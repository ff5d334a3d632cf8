"""The one language host and worker share. Standard library only."""
