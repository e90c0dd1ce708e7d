"""hrlib: refine 3D hand pose estimation from unlabelled depth images (Dibra et al., 3DV 2017)."""

__version__ = "0.1.0"
