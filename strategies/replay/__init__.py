"""Old rows beside new ones."""
