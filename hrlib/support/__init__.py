"""What every room may need: paths, whole files, processes and stops."""
