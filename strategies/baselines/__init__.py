"""Baselines and bounds: plain, joint and cumulative training, frozen features, class means."""
