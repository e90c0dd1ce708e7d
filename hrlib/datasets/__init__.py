"""Data sets with labels, real frames without, and published predictions."""
