"""Methods that give each task a part of the network."""
