"""The settings of `neocog demo`: deck 003's convnet on the 1,797 digits of scikit-learn, enlarged to 28 x 28."""

SETTINGS = {"data": "digits", "model": "mnist_convnet", "image_size": 28, "epochs": 30, "batch_size": 32}
