"""Where map steps run when this machine is not enough."""
