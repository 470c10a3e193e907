"""Old answers as targets."""
