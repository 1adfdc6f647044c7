"""Two-stage RLHF from a recipe: settings, stages, what a run leaves behind."""
