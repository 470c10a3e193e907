"""Inputs of models: images, token numbers, or features of a frozen backbone."""

from bench.encode.image_features import normalised
from bench.encode.model_inputs import input_shape, inputs, model_fingerprint, name_features, tokens
from bench.encode.token_pairs import generation_header, tokenizer_from_text, tokenizer_of, words

__all__ = [
    "generation_header", "input_shape", "inputs", "model_fingerprint", "name_features", "normalised",
    "tokenizer_from_text", "tokenizer_of", "tokens", "words",
]  # fmt: skip
