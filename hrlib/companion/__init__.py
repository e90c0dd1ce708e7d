"""What the notebooks need: frames to run on, figures, widgets, results, claims, and the command that runs them all."""
