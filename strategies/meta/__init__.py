"""Learning to learn without interference."""
