"""From rollouts to gold labels and back: who is asked, on what sheet, and what the answers say."""
