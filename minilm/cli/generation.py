"""The commands that write: `minilm generate | chat`."""
