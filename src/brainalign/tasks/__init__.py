"""What a trained run is for: signals to images, images to signals, signals to signals of another modality."""
