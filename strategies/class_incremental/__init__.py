"""One head that grows class by class."""
