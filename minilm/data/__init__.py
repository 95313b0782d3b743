"""What to learn from: stories with a known entropy, puzzles with exact checkers, real text that is already on this computer, and
named downloads.

`stories` and `puzzles` make them, `corpora` reads what is here, `download` fetches by name. Nothing goes online unless it is
asked to.
"""
