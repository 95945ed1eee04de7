"""From annotated images to batches: drawn sample, annotations, sources, split, packs, augmentation."""
