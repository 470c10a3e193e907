"""Texts and images as what a model reads."""

from bench.encode.model_inputs import input_shape, inputs, name_features, to_stderr, tokens
from bench.encode.token_pairs import kept_facts, kept_tokenizer, mark, tokenizer_of, words
