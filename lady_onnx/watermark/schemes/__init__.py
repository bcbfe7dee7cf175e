"""Ways to write bits into weights. `interface` says what each of them does."""
