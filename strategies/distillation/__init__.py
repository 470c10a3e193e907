"""Outputs or features of an earlier network as targets."""
