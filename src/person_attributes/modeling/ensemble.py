"""Ensembles: the mean of the probabilities of several networks (Hansen and Salamon 1990)."""

from collections.abc import Sequence

import keras
from keras import layers


def average_networks(members: Sequence[keras.Model]) -> keras.Model:
    """Combines networks into one whose probabilities are the means of theirs.

    Args:
        members: Networks with the same input and heads. The new network shares their layers.

    Returns:
        A model with the same input and output; the network itself if there is only one.
    """
    first, *others = members
    if not others:
        return first
    images = keras.Input(first.input.shape[1:], dtype="uint8", name="image")
    answers = [
        keras.Model(member.input, member.output, name=f"ensemble_{number}")(images)
        for number, member in enumerate(members)
    ]
    outputs = {
        head: layers.Average(dtype="float32", name=head)([answer[head] for answer in answers])
        for head in first.output
    }
    return keras.Model(images, outputs, name="ensemble")
