"""EDM (Hoogeboom et al., arXiv:2203.17003)."""
