"""What a user brings: classes and steps, images and labels, supports, and the manifest that names them."""
