"""Inputs of models: images, token numbers, or features of a frozen backbone."""

from bench.encode.image_features import normalised, weights_mark
from bench.encode.model_inputs import input_shape, inputs, name_features, tokens
from bench.encode.token_pairs import generation_header, mark, tokenizer_from_text, tokenizer_of, words

__all__ = [
    "generation_header", "input_shape", "inputs", "mark", "name_features", "normalised",
    "tokenizer_from_text", "tokenizer_of", "tokens", "weights_mark", "words",
]  # fmt: skip
