"""Pictures that reports and notebooks share."""
