"""One module for each way to reach a model; all follow `protocol.Provider`."""
