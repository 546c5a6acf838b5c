"""The measured networks in plain torch.nn: one file each, with the modules created in the order in which they run."""
