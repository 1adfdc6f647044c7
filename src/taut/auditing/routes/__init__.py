"""Ways from the learned reward to the true one."""
