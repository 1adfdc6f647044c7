"""Laws over policies that a choice or a training run leaves behind, and what they cost in kl."""
