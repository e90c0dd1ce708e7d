"""A depth frame: its camera and file, where the hand is in it, and the crop (image D, points P_D; Sec. 4.1 and 4.2)."""
