"""Your own camera, in the order of its steps: check, run, track, report."""
