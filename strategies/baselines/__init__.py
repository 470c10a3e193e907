"""Plain training and bounds."""
