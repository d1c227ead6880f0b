"""Symphony: molecules that grow atom by atom."""
