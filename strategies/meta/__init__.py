"""Meta-learning methods: quick steps on new rows, judged on new and stored rows."""
