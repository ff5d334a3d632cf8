"""The host's side of the wire. Standard library only."""
