"""Many structures by the workers of a queue: each is answered exactly once, or listed with the reason why not."""
