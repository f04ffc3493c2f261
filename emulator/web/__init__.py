"""Pages for people and the JSON behind them, live over the same queries."""
