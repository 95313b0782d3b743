"""What the library costs, measured side by side with its peers: `python -m benchmarks NAME`."""
