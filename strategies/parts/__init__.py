"""What several methods are built from."""

from strategies.parts.class_memory import GreedyMemory, pick, real_rows
from strategies.parts.exemplars import held_of
from strategies.parts.fisher import absolute_gradients, squared_gradients
from strategies.parts.flat_vectors import flatten, write_flat
from strategies.parts.gan import Critic, GANAdam, Images
from strategies.parts.gates import Gated
from strategies.parts.incremental_classifier import Distilled, ExemplarReplay
from strategies.parts.layers import Layer, fan_in, hidden_layers, inputs_during, masked, outputs
from strategies.parts.memory import Memory, join
from strategies.parts.nearest_mean import NearestMean, features_of
from strategies.parts.noise import Noise
from strategies.parts.passes import Passes
from strategies.parts.per_example import at_once, counting, each
from strategies.parts.quadratic import ROWS_AT_ONCE, QuadraticPenalty
from strategies.parts.recycling import Recycling
from strategies.parts.replay import Replay, RowReplay
from strategies.parts.row_sample import sample_rows
from strategies.parts.soft_targets import soft_cross_entropy, tempered
from strategies.parts.tuned_transformer import frozen_features, tuned
from strategies.parts.vae import VAE, Decoder, Latent, log_normal, reconstruction, sample

__all__ = [
    "ROWS_AT_ONCE",
    "VAE",
    "Critic",
    "Decoder",
    "Distilled",
    "ExemplarReplay",
    "GANAdam",
    "Gated",
    "GreedyMemory",
    "Images",
    "Latent",
    "Layer",
    "Memory",
    "NearestMean",
    "Noise",
    "Passes",
    "QuadraticPenalty",
    "Recycling",
    "Replay",
    "RowReplay",
    "absolute_gradients",
    "at_once",
    "counting",
    "each",
    "fan_in",
    "features_of",
    "flatten",
    "frozen_features",
    "held_of",
    "hidden_layers",
    "inputs_during",
    "join",
    "log_normal",
    "masked",
    "outputs",
    "pick",
    "real_rows",
    "reconstruction",
    "sample",
    "sample_rows",
    "soft_cross_entropy",
    "squared_gradients",
    "tempered",
    "tuned",
    "write_flat",
]
