"""Log-probs of logged responses under a model: words to tokens, tokens to sums, in parts."""
