"""The users' callables: the model, the guide and the discriminator, and how they are run."""
