"""The engine: minibatches, the step, and the loop around it."""
