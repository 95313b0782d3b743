"""Text to learn from: stories with a known entropy, real text that is already on this computer, and named downloads.

`stories` writes them, `corpora` reads what is here, `download` fetches by name. Nothing goes online unless it is asked to.
"""
