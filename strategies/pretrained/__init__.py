"""Methods for pretrained transformers."""
