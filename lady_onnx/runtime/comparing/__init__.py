"""Whether two models compute the same, by running both: samples, steps of a loop, the judgement."""
