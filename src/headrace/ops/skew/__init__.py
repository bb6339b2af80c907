"""skew: how rows, keyed as a table would be, lie on the nodes and shards of a cluster; worked out before the first write."""
