"""Meta-learning methods: quick steps on new rows, judged on new and remembered rows."""
