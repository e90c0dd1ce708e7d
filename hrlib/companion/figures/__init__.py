"""The figures of the notebooks: a module for each subject, which draws numbers that are computed elsewhere."""
