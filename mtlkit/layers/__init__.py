"""Network blocks: what backbones are made of. Nothing here knows of tasks, data or training."""
