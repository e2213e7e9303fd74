"""How `nano` is made: `render` draws clips, `train` learns from them, `export` writes the weights."""
