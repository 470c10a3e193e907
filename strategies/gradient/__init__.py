"""Methods that project the gradient."""
