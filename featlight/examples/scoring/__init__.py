"""What a run's network sees in photographs: activations of every tile, and the field of the strongest neuron."""
