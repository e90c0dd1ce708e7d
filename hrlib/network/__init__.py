"""From the crop to theta: PoseNet, its checkpoints, and export (Sec. 3.2)."""
