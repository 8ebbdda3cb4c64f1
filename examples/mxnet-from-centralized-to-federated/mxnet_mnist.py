"""MNIST with MXNet on one machine: data, model, training, test. Knows nothing of federated learning."""

import numpy as np
from umbel.frameworks.mxnet import get_mnist, mx  # first: makes MXNet importable beside today's numpy
from mxnet import autograd as ag
from mxnet import gluon, nd
from mxnet.gluon import nn

# Fixing the random seed
mx.random.seed(42)

# GPU and if not available CPU
DEVICE = [mx.gpu() if mx.test_utils.list_gpus() else mx.cpu()]


def load_data(partition: int = 0, num_partitions: int = 1) -> tuple[mx.io.NDArrayIter, mx.io.NDArrayIter]:
    """One of `num_partitions` equal parts of the training and of the test images, drawn at random: by default all."""
    mnist = get_mnist()

    def part(split: str) -> tuple[np.ndarray, np.ndarray]:
        # MNIST alternates between two groups of writers, so every second image would not be a fair half.
        order = np.random.RandomState(42).permutation(len(mnist[f"{split}_label"]))
        chosen = np.sort(order[partition::num_partitions])
        return mnist[f"{split}_data"][chosen], mnist[f"{split}_label"][chosen]

    batch_size = 100
    train_data = mx.io.NDArrayIter(*part("train"), batch_size, shuffle=True)
    val_data = mx.io.NDArrayIter(*part("test"), batch_size)
    return train_data, val_data


def model() -> nn.Sequential:
    """A very simple Sequential model, with values in all its parameters."""
    net = nn.Sequential()
    net.add(nn.Dense(256, activation="relu"))
    net.add(nn.Dense(10))
    net.collect_params().initialize(ctx=DEVICE)
    # MXNet gives a layer its parameters when it sees the size of its first input.
    net(nd.random.uniform(shape=(2, 784), ctx=DEVICE[0]))
    return net


def train(net: gluon.Block, train_data: mx.io.NDArrayIter, epoch: int, device: list[mx.Context]) -> float:
    """Trains the net in place for `epoch` passes over the data; the training accuracy of the last one."""
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.03})
    metric = mx.metric.Accuracy()
    softmax_cross_entropy_loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for i in range(epoch):
        train_data.reset()
        metric.reset()
        for batch in train_data:
            # One slice of the batch for each device
            data = gluon.utils.split_and_load(batch.data[0], ctx_list=device, batch_axis=0)
            label = gluon.utils.split_and_load(batch.label[0], ctx_list=device, batch_axis=0)
            outputs = []
            with ag.record():
                for x, y in zip(data, label, strict=True):
                    z = net(x)
                    loss = softmax_cross_entropy_loss(z, y)
                    loss.backward()
                    outputs.append(z)
            metric.update(label, outputs)
            # The trainer divides the gradient by the size of the batch.
            trainer.step(batch.data[0].shape[0])
        name, acc = metric.get()
        print(f"training acc at epoch {i}: {name}={acc:f}")
    return acc


def test(net: gluon.Block, val_data: mx.io.NDArrayIter, device: list[mx.Context]) -> tuple[float, float]:
    """The mean loss and the accuracy of the net on the data."""
    metric = mx.metric.Accuracy()
    loss_metric = mx.metric.Loss()
    softmax_cross_entropy_loss = gluon.loss.SoftmaxCrossEntropyLoss()
    val_data.reset()
    for batch in val_data:
        data = gluon.utils.split_and_load(batch.data[0], ctx_list=device, batch_axis=0)
        label = gluon.utils.split_and_load(batch.label[0], ctx_list=device, batch_axis=0)
        outputs = [net(x) for x in data]
        losses = [softmax_cross_entropy_loss(z, y) for z, y in zip(outputs, label, strict=True)]
        loss_metric.update(label, losses)
        metric.update(label, outputs)
    loss, accuracy = loss_metric.get()[1], metric.get()[1]
    print(f"validation acc: {accuracy:f}, validation loss: {loss:f}")
    return loss, accuracy


def main() -> None:
    train_data, val_data = load_data()
    net = model()
    train(net, train_data, epoch=5, device=DEVICE)
    loss, acc = test(net, val_data, device=DEVICE)
    print("Loss: ", loss)
    print("Accuracy: ", acc)


if __name__ == "__main__":
    main()
