"""From the crop to theta: PoseNet or a network of your own, checkpoints, and export (Sec. 3.2)."""
