"""What a TRL trainer does, written while it trains: the recorder and its checks."""
