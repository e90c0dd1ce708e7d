"""Training data (Sec. 4.1): poses, the rasteriser, sensors, frames of one hand, and simulated people."""
