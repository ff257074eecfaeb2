"""The same network in Keras, `model.fit` on arrays; KERAS_BACKEND says on what. An epoch is a round.

The progress bar is off, which helps Keras a little.
"""

import keras
from common import Rounds, arguments, mnist, report
from keras import layers

options = arguments()
pixels, labels = mnist(options.data, "train")
n = options.batches * options.batch_size
images = (pixels[:n, :, :, None] / 255).astype("float32")  # channels_last, Keras's default

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
assert model.count_params() == 34_826
model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])


class InRounds(keras.callbacks.Callback):
    def on_train_begin(self, logs: object = None) -> None:
        self.rounds = Rounds(1, n)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.rounds.batch_done()


report(ready=f"Keras {keras.__version__} on {keras.backend.backend()}")
model.fit(images, labels[:n], batch_size=options.batch_size, epochs=10**9, verbose=0, callbacks=[InRounds()])
