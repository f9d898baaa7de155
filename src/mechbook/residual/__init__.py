"""The room of the chapter on the residual stream: what it trains, measures and draws."""
