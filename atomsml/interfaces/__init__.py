"""What other programs see of a potential: a calculator for ASE."""
