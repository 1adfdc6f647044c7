"""Which of several policies is really best."""
