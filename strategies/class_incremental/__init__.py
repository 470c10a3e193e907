"""Class-incremental methods: every task brings new classes for one head."""
