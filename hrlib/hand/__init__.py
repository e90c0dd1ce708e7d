"""From theta to the posed cloud f_skin(P, M): joints, rig, kinematics, skinning, shape (Sec. 3.3.1, Eq. 2)."""
