"""Draws the embedded sample: synthetic people with eight visible attributes.

Columns, class names and class shares are taken from the article's data set. The same seed gives the
same bytes. Each image has its own random generator, so a larger sample starts with the images of a
smaller one.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLUMNS = (
    "filename",
    "gender",
    "imagequality",
    "age",
    "weight",
    "carryingbag",
    "footwear",
    "emotion",
    "bodypose",
    "image_path",
)

SHARES: dict[str, dict[str, float]] = {
    "gender": {"male": 0.563, "female": 0.437},
    "imagequality": {"Average": 0.553, "Good": 0.282, "Bad": 0.165},
    "age": {"15-25": 0.184, "25-35": 0.399, "35-45": 0.253, "45-55": 0.110, "55+": 0.054},
    "weight": {
        "normal-healthy": 0.636,
        "slightly-overweight": 0.235,
        "over-weight": 0.066,
        "underweight": 0.063,
    },
    "carryingbag": {
        "None": 0.564,
        "Daily/Office/Work Bag": 0.339,
        "Grocery/Home/Plastic Bag": 0.097,
    },
    "footwear": {"Normal": 0.445, "CantSee": 0.370, "Fancy": 0.185},
    "emotion": {"Neutral": 0.712, "Happy": 0.119, "Angry/Serious": 0.111, "Sad": 0.058},
    "bodypose": {"Front-Frontish": 0.618, "Side": 0.220, "Back": 0.162},
}
"""Class shares, rounded from the article's 13,573 annotations."""

_HAIR: dict[str, Colour] = {
    "15-25": (178, 82, 34),
    "25-35": (34, 26, 24),
    "35-45": (92, 66, 52),
    "45-55": (142, 140, 142),
    "55+": (232, 232, 236),
}
_STOOP = {"15-25": -0.01, "25-35": 0.0, "35-45": 0.01, "45-55": 0.035, "55+": 0.07}
_WIDTH = {
    "underweight": 0.68,
    "normal-healthy": 1.0,
    "slightly-overweight": 1.38,
    "over-weight": 1.8,
}
_BLUR = {"Good": 0.0, "Average": 1.5, "Bad": 3.6}
_NOISE = {"Good": 2.0, "Average": 13.0, "Bad": 34.0}
_LIGHT = {"Good": (0.98, 1.15), "Average": (0.8, 1.02), "Bad": (0.5, 0.8)}
_SUPERSAMPLING = 2


@dataclass(frozen=True)
class _Figure:
    """One person on a canvas of height 1; x is measured from the vertical axis of the person."""

    labels: dict[str, str]
    random: np.random.Generator
    draw: ImageDraw.ImageDraw
    scale: float
    axis: float
    top: float
    skin: Colour
    top_colour: Colour
    leg_colour: Colour

    @property
    def width(self) -> float:
        side = 0.72 if self.labels["bodypose"] == "Side" else 1.0
        return _WIDTH[self.labels["weight"]] * side

    def at(self, x: float, y: float) -> Point:
        """Converts figure units to pixels; the stoop moves the upper body forward."""
        lean = _STOOP[self.labels["age"]] * max(0.0, 0.55 - y) / 0.4
        return (self.axis + (x + lean) * self.scale, self.top + y * self.scale)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon([self.at(x, y) for x, y in points], fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        (left, upper), (right, lower) = self.at(x - rx, y - ry), self.at(x + rx, y + ry)
        # The lean differs between the corners, so x is computed from the centre.
        centre = self.at(x, y)[0]
        left, right = centre - rx * self.scale, centre + rx * self.scale
        self.draw.ellipse((left, upper, right, lower), fill=colour)

    def line(self, points: list[Point], colour: Colour, width: float) -> None:
        self.draw.line(
            [self.at(x, y) for x, y in points], fill=colour, width=max(1, round(width * self.scale))
        )


def draw_sample(folder: Path, images: int, image_size: int, seed: int) -> None:
    """Writes `hvc_annotations.csv` and `resized/*.jpg` into a folder.

    Args:
        folder: An existing folder.
        images: Number of images.
        image_size: Height and width of an image in pixels.
        seed: The same seed gives the same bytes.
    """
    (folder / "resized").mkdir()
    rows = []
    for number in tqdm(range(1, images + 1), "drawing", unit="image", disable=None):
        random = np.random.default_rng((seed, number))
        labels = _draw_labels(random)
        path = f"resized/{number}.jpg"
        (folder / path).write_bytes(_draw_person(labels, image_size, random))
        rows.append([f"images/Sample/{number}_0.jpg", *labels.values(), path])
    with (folder / "hvc_annotations.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _draw_labels(random: np.random.Generator) -> dict[str, str]:
    labels = {
        column: str(random.choice(list(shares), p=list(shares.values())))
        for column, shares in SHARES.items()
    }
    if labels["bodypose"] == "Back":  # the face is not visible
        labels["emotion"] = "Neutral"
    return labels


def _draw_person(labels: dict[str, str], image_size: int, random: np.random.Generator) -> bytes:
    """Draws one person with black bars at the sides, as JPEG."""
    height = image_size * _SUPERSAMPLING
    share = random.uniform(0.5, 0.62) + 0.11 * max(0.0, _WIDTH[labels["weight"]] - 1)
    width = round(height * share)
    canvas = _draw_background(width, height, random)
    figure = _pose(labels, canvas, random)
    for part in (_draw_long_hair, _draw_legs, _draw_torso, _draw_bag, _draw_head, _draw_face):
        part(figure)
    crop = canvas.resize((round(image_size * share), image_size), Image.Resampling.BOX)
    crop = _degrade(crop, labels["imagequality"], random)
    image = Image.new("RGB", (image_size, image_size))
    image.paste(crop, ((image_size - crop.width) // 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _draw_background(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Draws a wall, a floor and a few objects."""
    wall, floor = (_pick_colour(random, 90, 215) for _ in range(2))
    canvas = Image.new("RGB", (width, height), wall)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, random.uniform(0.6, 0.85) * height, width, height), fill=floor)
    for _ in range(random.integers(2, 6)):
        x, y = random.uniform(-0.2, 0.9) * width, random.uniform(-0.1, 0.8) * height
        w, h = random.uniform(0.1, 0.4) * width, random.uniform(0.05, 0.35) * height
        draw.rectangle((x, y, x + w, y + h), fill=_pick_colour(random, 60, 230))
    return canvas


def _pose(labels: dict[str, str], canvas: Image.Image, random: np.random.Generator) -> _Figure:
    """Places the person; if the feet are not visible, they are below the canvas."""
    zoom = (
        random.uniform(1.16, 1.32) if labels["footwear"] == "CantSee" else random.uniform(0.93, 1)
    )
    return _Figure(
        labels=labels,
        random=random,
        draw=ImageDraw.Draw(canvas),
        scale=canvas.height * zoom,
        axis=canvas.width * random.uniform(0.44, 0.56),
        top=canvas.height * random.uniform(0.0, 0.03),
        skin=_shade((214, 160, 122), random.uniform(0.6, 1.12)),
        top_colour=_pick_colour(random, 30, 225),
        leg_colour=_pick_colour(random, 15, 130),
    )


def _draw_long_hair(figure: _Figure) -> None:
    if figure.labels["gender"] == "female":
        length = figure.random.uniform(0.3, 0.4)
        x = -0.03 if figure.labels["bodypose"] == "Side" else 0.0
        hair = _HAIR[figure.labels["age"]]
        figure.polygon(
            [(x - 0.085, 0.1), (x + 0.085, 0.1), (x + 0.11, length), (x - 0.11, length)], hair
        )


def _draw_legs(figure: _Figure) -> None:
    """Draws trousers and shoes; half of the women wear a skirt instead of trousers."""
    female = figure.labels["gender"] == "female"
    half = 0.075 * figure.width
    skirt = female and figure.random.random() < 0.5
    legs = figure.skin if skirt else figure.leg_colour
    stride = figure.random.uniform(0.0, 0.05)
    shoe = _pick_shoe_colour(figure)
    for side in (-1, 1):
        foot = side * (half * 0.55 + stride)
        figure.line([(side * half * 0.5, 0.54), (foot, 0.93)], legs, 0.055 * figure.width)
        _draw_shoe(figure, foot, side, shoe)
    if skirt:
        hem = half * 1.9
        figure.polygon([(-half, 0.5), (half, 0.5), (hem, 0.72), (-hem, 0.72)], figure.leg_colour)


def _pick_shoe_colour(figure: _Figure) -> Colour:
    if figure.labels["footwear"] == "Fancy":
        colours: list[Colour] = [(235, 40, 60), (250, 205, 40), (250, 250, 250)]
        return colours[figure.random.integers(3)]
    return _shade((60, 48, 40), figure.random.uniform(0.3, 1))


def _draw_shoe(figure: _Figure, x: float, side: int, colour: Colour) -> None:
    """Draws a flat shoe, or a larger one with a heel."""
    toe = 0.03 if figure.labels["bodypose"] == "Side" else 0.012 * side
    if figure.labels["footwear"] == "Fancy":
        figure.ellipse(x + toe, 0.945, 0.05, 0.026, colour)
        figure.polygon([(x - 0.03, 0.94), (x - 0.012, 0.94), (x - 0.02, 0.985)], colour)
    else:
        figure.ellipse(x + toe, 0.95, 0.042, 0.02, colour)


def _draw_torso(figure: _Figure) -> None:
    """Draws shoulders wider than hips on men, and the other way round on women."""
    female = figure.labels["gender"] == "female"
    shoulder = (0.085 if female else 0.12) * figure.width
    hip = (0.1 if female else 0.08) * figure.width
    waist = (0.062 if female else 0.088) * figure.width
    arm = 0.036 * (0.6 + 0.4 * figure.width)
    swing = figure.random.uniform(0.0, 0.04)
    for side in (-1, 1):
        hand = (side * (shoulder + 0.03 + swing), 0.53)
        figure.line([(side * shoulder * 0.95, 0.27), hand], _shade(figure.top_colour, 0.8), arm)
        figure.ellipse(*hand, 0.019, 0.019, figure.skin)
    figure.line([(0, 0.2), (0, 0.27)], figure.skin, 0.05)
    figure.polygon(
        [
            (-shoulder, 0.245),
            (shoulder, 0.245),
            (waist, 0.4),
            (hip, 0.56),
            (-hip, 0.56),
            (-waist, 0.4),
        ],
        figure.top_colour,
    )


def _draw_bag(figure: _Figure) -> None:
    """Draws a shoulder bag with a strap, or a bright plastic bag in the hand."""
    bag, side = figure.labels["carryingbag"], figure.random.choice((-1, 1))
    reach = 0.11 * figure.width + 0.035
    if bag == "Daily/Office/Work Bag":
        colour = _shade((88, 50, 26), figure.random.uniform(0.35, 1.25))
        figure.line([(-side * 0.07 * figure.width, 0.25), (side * reach, 0.45)], colour, 0.022)
        x = side * reach
        figure.polygon(
            [(x - 0.07, 0.42), (x + 0.07, 0.42), (x + 0.07, 0.55), (x - 0.07, 0.55)], colour
        )
        figure.line([(x - 0.07, 0.46), (x + 0.07, 0.46)], _shade(colour, 0.5), 0.01)
    elif bag == "Grocery/Home/Plastic Bag":
        colour = ((245, 245, 248), (120, 225, 130), (150, 200, 250))[figure.random.integers(3)]
        x = side * (reach + 0.02)
        figure.line([(x - 0.04, 0.6), (x, 0.52), (x + 0.04, 0.6)], colour, 0.02)
        figure.polygon(
            [(x - 0.08, 0.58), (x + 0.08, 0.58), (x + 0.1, 0.78), (x - 0.1, 0.78)], colour
        )


def _draw_head(figure: _Figure) -> None:
    """Draws the head; hair covers all of it from behind, and half of it from the side."""
    hair, pose = _HAIR[figure.labels["age"]], figure.labels["bodypose"]
    figure.ellipse(0, 0.125, 0.078, 0.098, hair)
    if pose == "Back":
        return
    x = 0.026 if pose == "Side" else 0.0
    figure.ellipse(x, 0.142, 0.056 if pose == "Side" else 0.066, 0.076, _face_colour(figure))
    if pose == "Side":
        figure.polygon([(0.07, 0.125), (0.112, 0.158), (0.07, 0.165)], _face_colour(figure))


def _face_colour(figure: _Figure) -> Colour:
    """Returns the skin colour, redder for anger and paler for sadness."""
    red, green, blue = figure.skin
    if figure.labels["emotion"] == "Angry/Serious":
        return (min(255, red + 35), int(green * 0.68), int(blue * 0.68))
    if figure.labels["emotion"] == "Sad":
        return (int(red * 0.82), int(green * 0.95), min(255, blue + 45))
    return figure.skin


def _draw_face(figure: _Figure) -> None:
    """Draws eyes, brows and a mouth that show the emotion."""
    pose, emotion = figure.labels["bodypose"], figure.labels["emotion"]
    if pose == "Back":
        return
    dark: Colour = (30, 20, 20)
    middle = 0.052 if pose == "Side" else 0.0
    slant = {"Angry/Serious": 0.02, "Sad": -0.016}.get(emotion, 0.0)
    for side in (1,) if pose == "Side" else (-1, 1):
        x = middle + (0.0 if pose == "Side" else side * 0.028)
        figure.ellipse(x, 0.128, 0.009, 0.011, dark)
        inner, outer = x - side * 0.018, x + side * 0.018
        figure.line([(inner, 0.106 + slant / 2), (outer, 0.106 - slant / 2)], dark, 0.009)
    _draw_mouth(figure, middle, emotion, 0.032 if pose == "Side" else 0.05)


def _draw_mouth(figure: _Figure, x: float, emotion: str, half: float) -> None:
    red: Colour = (150, 32, 40)
    if emotion == "Happy":
        figure.polygon([(x - half, 0.164), (x + half, 0.164), (x, 0.214)], (255, 255, 255))
        figure.line([(x - half, 0.164), (x, 0.214), (x + half, 0.164)], red, 0.011)
    elif emotion == "Sad":
        figure.line([(x - half, 0.2), (x, 0.174), (x + half, 0.2)], red, 0.014)
        figure.ellipse(x + half * 0.7, 0.155, 0.009, 0.022, (70, 130, 245))
    else:
        width = 0.013 if emotion == "Angry/Serious" else 0.008
        figure.line([(x - half * 0.5, 0.184), (x + half * 0.5, 0.184)], red, width)


def _degrade(crop: Image.Image, quality: str, random: np.random.Generator) -> Image.Image:
    """Blurs and darkens the image and adds noise, depending on the image quality."""
    scale = crop.height / 224
    blur = _BLUR[quality] * random.uniform(0.75, 1.25) * scale
    pixels = np.asarray(crop.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    noise = random.normal(0, _NOISE[quality] * random.uniform(0.75, 1.25), pixels.shape)
    light = random.uniform(*_LIGHT[quality])
    return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))


def _pick_colour(random: np.random.Generator, low: int, high: int) -> Colour:
    red, green, blue = (int(value) for value in random.integers(low, high, 3))
    return (red, green, blue)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return (red, green, blue)
