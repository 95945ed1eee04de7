"""From annotated images to batches: sample, annotations, sources, split, packs, augmentation."""
