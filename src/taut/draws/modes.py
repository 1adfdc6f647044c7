"""How prompts came into a log, as --prompts says; apart, so that --help loads no numbers."""

SAMPLE, LIST, REPLACEMENT = "sample", "list", "with-replacement"
PROMPT_MODES = (SAMPLE, LIST, REPLACEMENT)
