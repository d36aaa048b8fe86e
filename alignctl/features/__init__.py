"""From images and models to spaces of features, with ids and labels."""
