"""What a recipe is shown besides the images that it moves."""
