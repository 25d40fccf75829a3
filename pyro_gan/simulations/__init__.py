"""Simulations of a model made in parallel, as data to train on."""

from pyro_gan.simulations.simulating import Simulations, simulate

__all__ = ["Simulations", "simulate"]
