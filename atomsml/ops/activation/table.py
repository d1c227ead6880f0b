"""How much SiLU is scaled."""

# E[silu(x)^2]^(-1/2) for x ~ N(0, 1): the activation keeps unit variance (e3nn's and MACE's constant)
SILU_GAIN = 1.6791767923989418
# The same of tanh as e3nn has it, an average over a million numbers; the integral is 1.5925
TANH_GAIN = 1.5937334472592695
