"""What the judge is judged by: right kernels, mutants of them, cheats, and the rules of others."""
