"""The data: sample, sources, annotations, records, split, packs, augmentation and batches."""
