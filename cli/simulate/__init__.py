"""What commands of many structures share: which atoms are held, which inputs are of a shard, how runs go on."""
