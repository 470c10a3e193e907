"""Building blocks that several methods share: memories, Fisher, gates, generators, exemplars."""

from strategies.parts.class_memory import GreedyMemory, pick_marked, real_rows
from strategies.parts.exemplars import held_out_count
from strategies.parts.fisher import absolute_gradients, squared_gradients
from strategies.parts.frozen_backbone import frozen_features, tuned_transformer
from strategies.parts.gan import Critic, GANAdam, ImageGenerator
from strategies.parts.gates import Gated
from strategies.parts.incremental_classifier import Distilled, ExemplarReplay
from strategies.parts.latent_terms import sample_and_log_ratio
from strategies.parts.layers import (
    Layer,
    fan_in,
    hidden_layers,
    inputs_during,
    patches_of,
    recorded_calls,
    relu_chain,
    unit_count,
    with_masks,
)
from strategies.parts.memory import Memory, pick_rows
from strategies.parts.nearest_mean import NearestMean, features_of
from strategies.parts.network_per_task import by_task, one_per_task
from strategies.parts.noise import GaussianNoise
from strategies.parts.per_example import counting_rows, groups_as_lanes, rows_at_once
from strategies.parts.quadratic import ROWS_AT_ONCE, QuadraticPenalty
from strategies.parts.recycling import Recycling
from strategies.parts.replay import Rehearsal, Replay, RowReplay, virtual_step
from strategies.parts.row_sample import sample_rows
from strategies.parts.teacher import (
    WithTeacher,
    cross_entropy_with,
    soft_cross_entropy,
    taught_heads,
    tempered,
)
from strategies.parts.vae import (
    VAE,
    Decoder,
    Latent,
    log_normal_density,
    need_pixels_0_to_1,
    reconstruction_loss,
    sample_latent,
)
from strategies.parts.weighted_rows import new_and_replayed

__all__ = [
    "ROWS_AT_ONCE", "VAE", "Critic", "Decoder", "Distilled", "ExemplarReplay", "GANAdam", "Gated",
    "GaussianNoise", "GreedyMemory", "ImageGenerator", "Latent", "Layer", "Memory", "NearestMean",
    "QuadraticPenalty", "Recycling", "Rehearsal", "Replay", "RowReplay", "WithTeacher", "absolute_gradients",
    "by_task", "counting_rows", "cross_entropy_with", "fan_in", "features_of", "frozen_features",
    "groups_as_lanes", "held_out_count", "hidden_layers", "inputs_during", "log_normal_density",
    "need_pixels_0_to_1", "new_and_replayed", "one_per_task", "patches_of", "pick_marked", "pick_rows",
    "real_rows", "reconstruction_loss", "recorded_calls", "relu_chain", "rows_at_once",
    "sample_and_log_ratio", "sample_latent", "sample_rows", "soft_cross_entropy", "squared_gradients",
    "taught_heads", "tempered", "tuned_transformer", "unit_count", "virtual_step", "with_masks",
]  # fmt: skip
