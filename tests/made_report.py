"""A report as a run of `neocog train` would fill it in."""

import io

import numpy as np
from PIL import Image

from neocog import report as rp
from neocog.evaluate import Predictions, summarise

CLOTHES = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"]
SUPPORT = [15, 12, 69, 36, 42, 36, 73, 30, 12, 47]


def predictions(classes=CLOTHES, support=SUPPORT, seed=0):
    """Right about four times in five; neighbouring classes are confused with each other."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    labels = np.repeat(np.arange(k), support)
    n = len(labels)
    scores = rng.normal(size=(n, k)) * 0.8
    scores[np.arange(n), labels] += rng.gamma(3, 1.6, n)
    scores[np.arange(n), (labels + rng.choice([1, 2, 7], n)) % k] += 2.2
    p = np.exp(scores)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    files = [f"clothing10/test/{classes[label]}/{i:05d}.jpg" for i, label in enumerate(labels)]
    return Predictions(files, ["test"] * n, list(classes), labels, p)


def png(seed, size=72):
    """A soft blob of colour, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    colour, back = rng.uniform(40, 230, (2, 3))
    blob = ((x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < rng.uniform(0.05, 0.12))[..., None]
    buffer = io.BytesIO()
    Image.fromarray(np.where(blob, colour, back).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def watched():
    """A training seen from inside: 34 layers, the first of which began to learn late, and a bowl beside the weights."""
    epochs = tuple(i / 2 for i in range(1, 41))
    gradients = [tuple(10 ** (-layer / 8 - i / 20) for i in range(40)) for layer in range(34)]
    gradients[0] = (None,) * 10 + gradients[0][10:]
    places = tuple(i / 2 - 1 for i in range(5))
    bowl = [[0.1 + (x - 0.5) ** 2 + 2 * y**2 for x in places] for y in places]
    bowl[4][0] = None
    return rp.WatchFacts(
        findings=(
            ("The gradient vanishes on its way back.", True),
            ("2 channels are dead.", False),
        ),
        pictures=128,
        epochs=epochs,
        layers=tuple(
            rp.LayerCourse(f"stages.stage{i // 6}.{i % 6}.body.conv{i}.conv", g, g, tuple(v and v / 100 for v in g))
            for i, g in enumerate(gradients)
        ),
        stages=(
            rp.StageCourse(
                "stages.stage1",
                tuple(rp.Spread(e, 0.1 * e, 1.0, -1.0 - e, 2.0, (4, 3, 0, 9, 1, 1, 0, 2)) for e in (0.0, 10.0, 20.0)),
            ),
            rp.StageCourse("head", (), not_finite=7),
        ),
        rectifiers=tuple(rp.RectifierCourse(f"stages.r{i}", 64, (0, i), 3136, (9, 49 * i)) for i in range(30)),
        plane=rp.LossPlane(places, tuple(tuple(row) for row in bowl), 64),
    )


def make_report(predicted=None, picture=png, split="test"):
    """A report as a run of `neocog train` would fill it in."""
    predicted = predicted or predictions()
    classes = predicted.classes
    scores = rp.Scores(**summarise(predicted))

    def shown(row):
        return rp.Picture(picture(int(row)), predicted.files[row])

    mistakes = tuple(
        rp.Mistake(
            shown(i), classes[predicted.labels[i]], classes[predicted.predicted[i]], float(predicted.confidence[i])
        )
        for i in predicted.mistakes()[:12]
    )
    pairs = []
    for pair in scores.most_confused[:6]:
        is_pair = (predicted.labels == classes.index(pair["truth"])) & (
            predicted.predicted == classes.index(pair["predicted"])
        )
        pairs.append(rp.ConfusedPair(**pair, examples=tuple(shown(i) for i in np.flatnonzero(is_pair)[:4])))
    history = tuple(
        rp.Epoch(
            i,
            train_loss=2.1 * 0.8**i + 0.12,
            val_loss=1.9 * 0.82**i + 0.46 + 0.03 * np.sin(3 * i),
            train_accuracy=0.96 - 0.7 * 0.78**i,
            val_accuracy=0.84 - 0.6 * 0.76**i + 0.01 * np.cos(2 * i),
            learning_rate=0.001 * (1 + np.cos(np.pi * i / 20)) / 2,
        )
        for i in range(1, 21)
    )
    return rp.Report(
        model="mobilenet_v2",
        regime="full",
        data_name="clothing10",
        done="Published ImageNet weights, a new head for 2 epochs, then all layers for 18 at a tenth of the rate.",
        created="2025-11-21 02:24 UTC",
        warnings=(
            "2 pictures stand in both the training and the test set; they were moved to the training set.",
            "hat and skirt have only 12 test pictures each: their recall may be off by 20 points or more.",
        ),
        data=rp.DataFacts(
            source="../shared/data/clothing10",
            splits=("train", "val", "test"),
            classes=tuple(
                rp.ClassCount(name, (90, 34, s["support"])) for name, s in zip(classes, scores.per_class, strict=True)
            ),
            how_split="as the folders train, validation and test give it",
            excluded=(
                ("clothing10/train/hat/0a1b2c3d-broken.jpg", "truncated: the file ends before the picture does"),
                ("clothing10/train/shoes/readme.jpg", "not an image: the file holds text"),
            ),
            duplicates=(("leak between train and test", ("clothing10/train/hat/1.jpg", "clothing10/test/hat/7.jpg")),),
            modes=(("RGB", 1598), ("CMYK", 9), ("grey", 6)),
            notes=("31 pictures were turned upright as their EXIF orientation says.",),
        ),
        samples=tuple(rp.Picture(picture(1000 + i), f"train/{i}.jpg", classes[i % len(classes)]) for i in range(12)),
        network=rp.NetworkFacts(
            name="mobilenet_v2",
            idea="Thin layers between wide ones: each block widens, filters every channel alone, and narrows again.",
            input_shape=(3, 224, 224),
            params=2_236_682,
            macs=300_788_992,
            preprocessing="short side to 256, centre 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
            paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
            year=2018,
            link="https://arxiv.org/abs/1801.04381",
            weights=(("Weights", "mobilenet_v2.safetensors (sha256 e07a2e97)"), ("Weights' licence", "Apache-2.0")),
            stages=(
                rp.Stage("stem", (32, 112, 112), 928, 10_838_016),
                rp.Stage("stage1", (16, 112, 112), 896, 10_035_200),
                rp.Stage("head", (10,), 12_810, 12_800),
            ),
        ),
        history=history,
        kept_epoch=17,
        evaluation=rp.Evaluation(split, scores, tuple(pairs), mistakes),
        training=rp.TrainingFacts(
            seconds=222.4,
            epochs=20,
            images_per_second=81.3,
            device="cpu, 2 threads",
            precision="bfloat16 autocast",
            layout="channels_last",
            versions=(("neocog", "0.1.0"), ("torch", "2.13.0"), ("Python", "3.11.2")),
        ),
        watch=watched(),
        settings=(
            rp.Setting("model", "mobilenet_v2", True),
            rp.Setting("regime", "full", True),
            *(rp.Setting(f"setting_{i}", f"{i / 100}") for i in range(20)),
        ),
        command="neocog train ../shared/data/clothing10 --model mobilenet_v2 --regime full "
        "--weights ../shared/data/weights/imagenet/mobilenet_v2.safetensors --epochs 20 --seed 0",
    )
