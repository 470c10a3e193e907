"""Parameters of their own for each task."""
