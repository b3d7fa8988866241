"""What an image is to maximise: losses over regions of a layer's output."""
