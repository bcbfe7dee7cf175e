"""One normal form for graphs that are written differently, by rewrites that hold for all inputs."""
