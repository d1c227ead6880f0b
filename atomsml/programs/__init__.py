"""Prediction without autograd: what is made ready for the weights of a model as they are."""
