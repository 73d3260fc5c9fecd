"""A residual network, a metric and a loss for mapper."""
