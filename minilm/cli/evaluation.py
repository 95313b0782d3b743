"""The commands that measure: `minilm eval | verify | info`."""
