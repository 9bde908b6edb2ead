"""What is done to training images: one at a time (`image`) and a batch at a time (`mixing`)."""
