"""From images to features: sources of images, backbones and their training, rendered letters."""
